#include "deferd/head.h"

#include "deferd/fcgi.h"
#include "deferd/params.h"
#include "deferd/token.h"

#include <string.h>
#include <uv.h>

/* What stands before the first param: BEGIN_REQUEST and the header of the PARAMS record. */
#define HEAD_PREFIX (FCGI_SHORT_RECORD + FCGI_HEADER_LEN)

/* Behind the last: a PARAMS record with DEFERD_TOKEN, which by being the last wins over any other
 * of that name (fact 15), and the empty PARAMS record. */
#define HEAD_TOKEN_NAME "DEFERD_TOKEN"
#define HEAD_TOKEN_PAIR (2 + sizeof(HEAD_TOKEN_NAME) - 1 + TOKEN_LEN)
#define HEAD_STOP_NAME  "DEFERD_STOP"
#define HEAD_STOP_PAIR  (2 + sizeof(HEAD_STOP_NAME) - 1 + HEAD_STOP_MAX)
#define HEAD_SUFFIX     (HEAD_STOP_PAIR + FCGI_HEADER_LEN + HEAD_TOKEN_PAIR + FCGI_HEADER_LEN)

#define HEAD_METHOD_KEPT 32

int head_add(struct head *head, const uint8_t *data, size_t len, size_t max)
{
    struct buf *records = &head->records;
    if (records->len == 0) {
        int rc = buf_reserve(records, HEAD_PREFIX + len + HEAD_SUFFIX);
        if (rc != 0) {
            return rc;
        }
        records->len = HEAD_PREFIX;
    }
    if (records->len - HEAD_PREFIX + len > max) {
        return UV_E2BIG;
    }
    return buf_append(records, data, len);
}

static long long head_parse_length(const struct param *param)
{
    long long n = 0;
    if (param->value_len == 0) {
        return HEAD_LENGTH_NONE;
    }
    if (param->value_len > 18) {
        return HEAD_LENGTH_ODD;
    }
    for (size_t i = 0; i < param->value_len; i++) {
        if (param->value[i] < '0' || param->value[i] > '9') {
            return HEAD_LENGTH_ODD;
        }
        n = n * 10 + (param->value[i] - '0');
    }
    return n;
}

/* Takes from the params what deferd itself needs to know. The last of a name wins, as in FPM. */
static int head_read_params(struct head *head, const uint8_t *data, size_t len)
{
    struct param param;
    while (len > 0) {
        size_t n = params_next(data, len, &param);
        if (n == 0) {
            return UV_EINVAL;
        }
        if (params_is(&param, "REQUEST_METHOD")) {
            head->method = (struct slice){param.value, param.value_len};
        } else if (params_is(&param, "REQUEST_URI")) {
            head->uri = (struct slice){param.value, param.value_len};
        } else if (params_is(&param, "DEFERD_CLASS")) {
            head->class_name = (struct slice){param.value, param.value_len};
        } else if (params_is(&param, "CONTENT_LENGTH")) {
            head->content_length = head_parse_length(&param);
        } else if (params_is(&param, "SCRIPT_NAME")) {
            head->script = (struct slice){param.value, param.value_len};
        } else if (params_is(&param, "QUERY_STRING")) {
            head->query = (struct slice){param.value, param.value_len};
        }
        data += n;
        len -= n;
    }
    return 0;
}

/* Lays params that do not fit into one record out over several, none of them with a part of a pair:
 * php-fpm reads each record's pairs by themselves (fact 15). */
static int head_split(struct head *head)
{
    const uint8_t *data = head->records.data + HEAD_PREFIX;
    size_t len = head->records.len - HEAD_PREFIX;
    struct buf records = {0};
    struct param param;
    int rc = buf_reserve(&records, HEAD_PREFIX + len + HEAD_SUFFIX);

    records.len = FCGI_SHORT_RECORD;
    while (rc == 0 && len > 0) {
        size_t n = params_fit(data, len, FCGI_MAX_LENGTH);
        if (n == 0) {
            /* The first pair is either broken or longer than a record can be. */
            rc = params_next(data, len, &param) == 0 ? UV_EINVAL : UV_E2BIG;
            break;
        }
        rc = buf_reserve(&records, FCGI_HEADER_LEN + n + HEAD_SUFFIX);
        if (rc == 0) {
            fcgi_put_header(records.data + records.len, FCGI_PARAMS, FCGI_UPSTREAM_ID, (uint16_t)n,
                            0);
            records.len += FCGI_HEADER_LEN;
            buf_append(&records, data, n);
        }
        data += n;
        len -= n;
    }
    buf_free(&head->records);
    head->records = records;
    return rc;
}

/* Reads the params out of the records, where they stay. *last: where the last record begins, 0
 * without any. */
static int head_read(struct head *head, size_t *last)
{
    const uint8_t *at = head->records.data + FCGI_SHORT_RECORD;
    const uint8_t *end = head->records.data + head->records.len;
    head->content_length = HEAD_LENGTH_NONE;
    *last = 0;
    while (at < end) {
        *last = (size_t)(at - head->records.data);
        size_t len = (size_t)(at[4] << 8 | at[5]);
        int rc = head_read_params(head, at + FCGI_HEADER_LEN, len);
        if (rc != 0) {
            return rc;
        }
        at += FCGI_HEADER_LEN + len;
    }
    return 0;
}

/* Lengthens the last record by DEFERD_STOP, which so wins over any other of that name. Only after
 * all was read: a broken pair at the end could take it for its own rest. */
static void head_put_stop(struct head *head, size_t last)
{
    uint8_t *record = head->records.data + last;
    size_t len = last != 0 ? (size_t)(record[4] << 8 | record[5]) : 0;
    size_t stop = head->stop != NULL ? strlen(head->stop) : 0;
    if (stop == 0 || stop > HEAD_STOP_MAX || len == 0 || len + HEAD_STOP_PAIR > FCGI_MAX_LENGTH) {
        head->stop = NULL;
        return;
    }
    len += params_put_short(head->records.data + head->records.len, HEAD_STOP_NAME, head->stop);
    fcgi_put_header(record, FCGI_PARAMS, FCGI_UPSTREAM_ID, (uint16_t)len, 0);
    head->records.len = last + FCGI_HEADER_LEN + len;
}

static void head_put_token(struct head *head, const char *token)
{
    uint8_t *at = head->records.data + head->records.len;
    fcgi_put_header(at, FCGI_PARAMS, FCGI_UPSTREAM_ID, HEAD_TOKEN_PAIR, 0);
    params_put_short(at + FCGI_HEADER_LEN, HEAD_TOKEN_NAME, token);
    at += FCGI_HEADER_LEN + HEAD_TOKEN_PAIR;
    fcgi_put_header(at, FCGI_PARAMS, FCGI_UPSTREAM_ID, 0, 0);
    head->records.len += FCGI_HEADER_LEN + HEAD_TOKEN_PAIR + FCGI_HEADER_LEN;
}

static int head_method_is(const struct head *head, const char *name)
{
    return head->method.len == strlen(name) &&
           memcmp(head->method.data, name, head->method.len) == 0;
}

int head_end(struct head *head, const char *token)
{
    struct buf *records = &head->records;
    int rc = head_add(head, NULL, 0, SIZE_MAX); /* no params at all: still the prefix */
    if (rc == 0) {
        rc = buf_reserve(records, HEAD_SUFFIX);
    }
    if (rc != 0) {
        return rc;
    }
    size_t len = records->len - HEAD_PREFIX;
    size_t last = 0;
    if (len == 0) {
        records->len = FCGI_SHORT_RECORD; /* an empty record would end the params */
    } else if (len <= FCGI_MAX_LENGTH) {
        fcgi_put_header(records->data + FCGI_SHORT_RECORD, FCGI_PARAMS, FCGI_UPSTREAM_ID,
                        (uint16_t)len, 0);
    } else {
        rc = head_split(head);
    }
    if (rc == 0) {
        rc = head_read(head, &last);
    }
    if (rc != 0) {
        return rc;
    }
    head_put_stop(head, last);
    head_put_token(head, token);
    head_keep_conn(head, 0);
    head->is_head = head_method_is(head, "HEAD");
    head->is_safe = head->is_head || head_method_is(head, "GET") || head_method_is(head, "OPTIONS");
    head->done = 1;
    return 0;
}

void head_keep_conn(struct head *head, int keep)
{
    fcgi_put_begin(head->records.data, FCGI_UPSTREAM_ID, FCGI_RESPONDER, keep ? FCGI_KEEP_CONN : 0);
}

void head_shed(struct head *head)
{
    struct buf label = {0};
    size_t uri_len = head->uri.len < HEAD_URI_KEPT ? head->uri.len : HEAD_URI_KEPT;
    size_t method_len = head->method.len < HEAD_METHOD_KEPT ? head->method.len : HEAD_METHOD_KEPT;
    if (head->shed || buf_reserve(&label, method_len + uri_len + 1) != 0) {
        return;
    }
    buf_append(&label, head->method.data, method_len);
    buf_append(&label, head->uri.data, uri_len);
    head->method = (struct slice){label.data, method_len};
    head->uri = (struct slice){label.data + method_len, uri_len};
    head->class_name = (struct slice){0};
    head->script = (struct slice){0};
    head->query = (struct slice){0};
    buf_free(&head->records);
    head->records = label;
    head->shed = 1;
}

int head_next_param(const struct head *head, struct head_walk *walk, struct param *out)
{
    const struct buf *records = &head->records;
    if (!head->done || head->shed) {
        return 0;
    }
    walk->at = walk->at > 0 ? walk->at : FCGI_SHORT_RECORD;
    while (walk->left == 0 && walk->at + FCGI_HEADER_LEN < records->len) {
        const uint8_t *header = records->data + walk->at;
        walk->left = (size_t)(header[4] << 8 | header[5]);
        walk->at += FCGI_HEADER_LEN;
    }
    size_t n = params_next(records->data + walk->at, walk->left, out);
    walk->at += n;
    walk->left -= n;
    return n > 0;
}

void head_free(struct head *head)
{
    buf_free(&head->records);
}
