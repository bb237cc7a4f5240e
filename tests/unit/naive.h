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

#endif
