/*
 * A request's head: whatever the params and however they arrive, they are refused for the reason
 * that the plain reference finds, or become the right records, in which deferd's own are read. So
 * that the fuzzer gets there, bytes from 0xf0 on stand for pairs, long ones among them.
 */
#include "../unit/naive.h"
#include "deferd/head.h"
#include "fuzz.h"

#include <uv.h>

#define PARAMS_MAX 200000
#define TOKEN      "0123456789abcdef0123456789abcdef"

static const char *const names[] = {"REQUEST_METHOD", "REQUEST_URI",  "DEFERD_CLASS",
                                    "CONTENT_LENGTH", "DEFERD_TOKEN", ""};

/* A pair with this name and the first bytes of data, over and over if need be. Returns its length.
 */
static size_t put_pair(uint8_t *out, const char *name, const uint8_t *data, size_t len,
                       size_t value_len)
{
    size_t at = 0;
    size_t name_len = strlen(name);
    out[at++] = (uint8_t)name_len;
    if (value_len > 127) {
        out[at++] = 0x80;
        out[at++] = (uint8_t)(value_len >> 16);
        out[at++] = (uint8_t)(value_len >> 8);
    }
    out[at++] = (uint8_t)value_len;
    memcpy(out + at, name, name_len);
    at += name_len;
    for (size_t i = 0; i < value_len; i++) {
        out[at++] = data[i % len];
    }
    return at;
}

/* Returns the length of what is made of the input. */
static size_t expand(const uint8_t *data, size_t len, uint8_t *out)
{
    size_t made = 0;
    for (size_t i = 0; i < len && made + 70000 <= PARAMS_MAX; i++) {
        if (data[i] < 0xf0 || i + 2 >= len) {
            out[made++] = data[i];
            continue;
        }
        const char *name = names[(data[i] & 0xf) % (sizeof(names) / sizeof(names[0]))];
        size_t n = data[i + 1];
        n = n < 0xe0 ? n : 65535 - 24 + (n & 0x1f);
        made += put_pair(out + made, name, data + i + 2, len - i - 2, n);
        i++;
    }
    return made;
}

static void is_slice(const struct head *head, const struct slice *slice, const uint8_t *params,
                     size_t len, const char *name)
{
    size_t value_len;
    const uint8_t *value = naive_param(params, len, name, &value_len);
    fuzz_assert(slice->len == value_len);
    fuzz_assert(value_len == 0 || memcmp(slice->data, value, value_len) == 0);
    fuzz_assert(value_len == 0 ||
                (slice->data >= head->records.data &&
                 slice->data + value_len <= head->records.data + head->records.len));
}

static void is_length(const struct head *head, const uint8_t *params, size_t len)
{
    char text[32] = "";
    char again[32];
    size_t value_len;
    const uint8_t *value = naive_param(params, len, "CONTENT_LENGTH", &value_len);
    if (value_len > 18) {
        fuzz_assert(head->content_length == HEAD_LENGTH_ODD);
        return;
    }
    if (value_len > 0) {
        memcpy(text, value, value_len);
    }
    /* Its digits, if it is nothing else. */
    snprintf(again, sizeof(again), "%0*lld", (int)value_len, head->content_length);
    if (head->content_length >= 0) {
        fuzz_assert(value_len > 0 && strcmp(text, again) == 0);
    } else if (head->content_length == HEAD_LENGTH_NONE) {
        fuzz_assert(value_len == 0);
    } else {
        fuzz_assert(head->content_length == HEAD_LENGTH_ODD);
        fuzz_assert(value_len > 0 && (strspn(text, "0123456789") < value_len));
    }
}

static void is_right(struct head *head, const uint8_t *params, size_t len)
{
    fuzz_assert(head->done);
    fuzz_assert(naive_records(head->records.data, head->records.len, params, len, TOKEN) == NULL);
    is_slice(head, &head->method, params, len, "REQUEST_METHOD");
    is_slice(head, &head->uri, params, len, "REQUEST_URI");
    is_slice(head, &head->class_name, params, len, "DEFERD_CLASS");
    is_length(head, params, len);
    head_shed(head);
    size_t uri_len;
    const uint8_t *uri = naive_param(params, len, "REQUEST_URI", &uri_len);
    fuzz_assert(head->uri.len == (uri_len < HEAD_URI_KEPT ? uri_len : HEAD_URI_KEPT));
    fuzz_assert(head->uri.len == 0 || memcmp(head->uri.data, uri, head->uri.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t params[PARAMS_MAX];
    struct fuzz_pieces stream;
    struct head head = {0};
    if (fuzz_pieces_open(&stream, data, size) != 0) {
        return 0;
    }
    stream.most *= 1 + stream.len * 4; /* few pieces of long params */
    stream.len = expand(stream.data, stream.len, params);
    stream.data = params;
    while (fuzz_pieces_next(&stream)) {
        fuzz_assert(head_add(&head, stream.piece, stream.piece_len, stream.at - 1) == UV_E2BIG);
        fuzz_assert(head_add(&head, stream.piece, stream.piece_len, stream.at) == 0);
    }
    int rc = head_end(&head, TOKEN);
    switch (naive_params(params, stream.len)) {
    case NAIVE_CUT:
        fuzz_assert(rc == UV_EINVAL);
        break;
    case NAIVE_LONG:
        fuzz_assert(rc == UV_E2BIG);
        break;
    case NAIVE_GOOD:
        fuzz_assert(rc == 0);
        is_right(&head, params, stream.len);
        break;
    }
    head_free(&head);
    return 0;
}
