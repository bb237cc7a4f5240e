/*
 * Finds the end-of-response marker in a stream that arrives in pieces of any size. Pure.
 *
 * The marker is 0x1E, "DEFERD/1 END ", the 32 hexadecimal digits of the request's token, 0x0A. Its
 * first byte occurs nowhere else in it, so a failed match never has to go back: what was held back
 * is response, and the search goes on at the byte that did not fit.
 */
#ifndef DEFERD_MARKER_H
#define DEFERD_MARKER_H

#include <stddef.h>
#include <stdint.h>

#define MARKER_TOKEN_LEN 32
#define MARKER_LEN       47

struct marker {
    uint8_t bytes[MARKER_LEN];
    uint8_t matched; /* bytes at the end of the input so far that begin a marker; held back */
};

struct marker_scan {
    size_t replay; /* so many bytes held back from earlier input, marker->bytes[0..replay), proved
                      to be response: they come before pass */
    size_t pass;   /* input[0..pass) is response */
    size_t used;   /* found: bytes up to and including the marker's last; otherwise all of them */
    int found;
};

/* token: MARKER_TOKEN_LEN lowercase hexadecimal digits. */
void marker_init(struct marker *marker, const char *token);

/* Looks at the next piece of the stream. Not to be called again after found. */
void marker_scan(struct marker *marker, const uint8_t *data, size_t len, struct marker_scan *out);

#endif
