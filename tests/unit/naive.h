/*
 * What the codecs should answer, found in the plainest way over a whole stream at once. The unit
 * tests and the fuzzers compare with it.
 */
#ifndef NAIVE_H
#define NAIVE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* How much of a stream is known to be response: up to the marker, *found is 1 then; or, without
 * one, up to the longest beginning of it at the stream's end. */
static inline size_t naive_response(const uint8_t *data, size_t len, const uint8_t *marker,
                                    size_t marker_len, int *found)
{
    const uint8_t *at = len > 0 ? memmem(data, len, marker, marker_len) : NULL;
    *found = at != NULL;
    if (at != NULL) {
        return (size_t)(at - data);
    }
    size_t held = len < marker_len ? len : marker_len - 1;
    while (held > 0 && memcmp(data + len - held, marker, held) != 0) {
        held--;
    }
    return len - held;
}

/* The length of the line that begins at from, without its LF and without a CR before that. *next
 * is where the next one begins, 0 if the line has no LF. */
static inline size_t naive_line(const uint8_t *data, size_t len, size_t from, size_t *next)
{
    size_t end = from;
    while (end < len && data[end] != '\n') {
        end++;
    }
    *next = end < len ? end + 1 : 0;
    return end > from && end < len && data[end - 1] == '\r' ? end - from - 1 : end - from;
}

/* The length of a CGI header block with its empty line, 0 if it has none. */
static inline size_t naive_head(const uint8_t *data, size_t len)
{
    size_t from = 0;
    size_t next;
    do {
        if (naive_line(data, len, from, &next) == 0 && next != 0) {
            return next;
        }
        from = next;
    } while (next != 0);
    return 0;
}

/* Does this line of a header block carry this field? */
static inline int naive_is_field(const uint8_t *line, size_t len, const char *lower)
{
    size_t i = 0;
    while (lower[i] != '\0') {
        if (i >= len || (line[i] | 0x20) != (uint8_t)lower[i]) {
            return 0;
        }
        i++;
    }
    return i < len && line[i] == ':';
}

/* The HTTP status that a header block of head bytes asks for. */
static inline int naive_status(const uint8_t *data, size_t head)
{
    int status = 0;
    int location = 0;
    size_t from = 0;
    while (from < head) {
        size_t next;
        size_t len = naive_line(data, head, from, &next);
        const uint8_t *line = data + from;
        if (naive_is_field(line, len, "status")) {
            size_t i = 7;
            while (i < len && (line[i] == ' ' || line[i] == '\t')) {
                i++;
            }
            int three = i + 3 <= len;
            for (size_t j = i; three && j < i + 3; j++) {
                three = line[j] >= (j == i ? '1' : '0') && line[j] <= '9';
            }
            status =
                three ? (line[i] - '0') * 100 + (line[i + 1] - '0') * 10 + line[i + 2] - '0' : 0;
        } else if (naive_is_field(line, len, "location")) {
            location = 1;
        }
        from = next;
    }
    return status != 0 ? status : location ? 302 : 200;
}

/* One name-value pair at data; its parts are offsets. */
struct naive_pair {
    size_t name;
    size_t name_len;
    size_t value;
    size_t value_len;
};

/* Reads a length. Returns 0 if it is not all there. */
static inline int naive_length(const uint8_t *data, size_t len, size_t *at, size_t *out)
{
    if (*at < len && data[*at] < 128) {
        *out = data[(*at)++];
        return 1;
    }
    if (len < 4 || *at > len - 4) {
        return 0;
    }
    *out = 0;
    for (int i = 0; i < 4; i++) {
        *out = *out * 256 + data[(*at)++];
    }
    *out -= 0x80000000u;
    return 1;
}

/* The length of the pair at data, 0 if it is not whole. */
static inline size_t naive_pair(const uint8_t *data, size_t len, struct naive_pair *pair)
{
    size_t at = 0;
    if (!naive_length(data, len, &at, &pair->name_len) ||
        !naive_length(data, len, &at, &pair->value_len)) {
        return 0;
    }
    pair->name = at;
    pair->value = at + pair->name_len;
    return pair->value + pair->value_len <= len ? pair->value + pair->value_len : 0;
}

enum naive_params {
    NAIVE_GOOD,
    NAIVE_CUT,  /* it ends within a pair */
    NAIVE_LONG, /* a pair is longer than a record, if they take more than one */
};

/* What the first thing is that is wrong with params. */
static inline enum naive_params naive_params(const uint8_t *data, size_t len)
{
    struct naive_pair pair;
    for (size_t at = 0, n; at < len; at += n) {
        n = naive_pair(data + at, len - at, &pair);
        if (n == 0 || n > 65535) {
            return n == 0 ? NAIVE_CUT : NAIVE_LONG;
        }
    }
    return NAIVE_GOOD;
}

/* The value of the last pair of this name, NULL if there is none. */
static inline const uint8_t *naive_param(const uint8_t *data, size_t len, const char *name,
                                         size_t *value_len)
{
    const uint8_t *value = NULL;
    struct naive_pair pair;
    *value_len = 0;
    for (size_t at = 0, n; (n = naive_pair(data + at, len - at, &pair)) > 0; at += n) {
        if (pair.name_len == strlen(name) &&
            memcmp(data + at + pair.name, name, pair.name_len) == 0) {
            value = data + at + pair.value;
            *value_len = pair.value_len;
        }
    }
    return value;
}

/* What is wrong with the records that are to carry these params upstream, NULL if nothing is. */
static inline const char *naive_records(const uint8_t *records, size_t len, const uint8_t *params,
                                        size_t params_len, const char *token)
{
    static const uint8_t begin[] = {1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0};
    static const uint8_t end[] = {1, 4, 0, 1, 0, 0, 0, 0};
    static const uint8_t token_begin[] = "\1\4\0\1\0\56\0\0\14\40DEFERD_TOKEN";
    size_t tail = sizeof(token_begin) - 1 + 32 + sizeof(end);
    size_t at = sizeof(begin);
    if (len < at + tail || memcmp(records, begin, at) != 0) {
        return "BEGIN_REQUEST";
    }
    while (at < len - tail) {
        size_t n = (size_t)records[at + 4] * 256 + records[at + 5];
        if (memcmp(records + at, "\1\4\0\1", 4) != 0 || records[at + 6] != 0 || n == 0) {
            return "a record of params";
        }
        at += 8;
        if (n > len - tail - at || n > params_len || memcmp(records + at, params, n) != 0) {
            return "the params";
        }
        if (naive_params(params, n) != NAIVE_GOOD) {
            return "a pair crosses records";
        }
        at += n;
        params += n;
        params_len -= n;
    }
    if (params_len > 0) {
        return "less than all params";
    }
    if (memcmp(records + at, token_begin, sizeof(token_begin) - 1) != 0 ||
        memcmp(records + at + sizeof(token_begin) - 1, token, 32) != 0) {
        return "the token";
    }
    return memcmp(records + len - sizeof(end), end, sizeof(end)) == 0 ? NULL : "the end";
}

#endif
