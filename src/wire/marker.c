#include "deferd/marker.h"

#include <string.h>

#define MARKER_PREFIX                                                                              \
    "\x1e"                                                                                         \
    "DEFERD/1 END "
#define MARKER_PREFIX_LEN (sizeof(MARKER_PREFIX) - 1)

_Static_assert(MARKER_PREFIX_LEN + MARKER_TOKEN_LEN + 1 == MARKER_LEN, "the marker is 47 bytes");

void marker_init(struct marker *marker, const char *token)
{
    memcpy(marker->bytes, MARKER_PREFIX, MARKER_PREFIX_LEN);
    memcpy(marker->bytes + MARKER_PREFIX_LEN, token, MARKER_TOKEN_LEN);
    marker->bytes[MARKER_LEN - 1] = '\n';
    marker->matched = 0;
}

/* How many bytes of the input continue a marker of which matched bytes have been seen. */
static size_t marker_match(const struct marker *marker, size_t matched, const uint8_t *data,
                           size_t len)
{
    size_t n = MARKER_LEN - matched;
    n = n < len ? n : len;
    size_t i = 0;
    while (i < n && data[i] == marker->bytes[matched + i]) {
        i++;
    }
    return i;
}

void marker_scan(struct marker *marker, const uint8_t *data, size_t len, struct marker_scan *out)
{
    size_t at = 0;

    *out = (struct marker_scan){.used = len};

    if (marker->matched > 0) {
        size_t held = marker->matched;
        size_t n = marker_match(marker, held, data, len);
        marker->matched = (uint8_t)(held + n);
        if (marker->matched == MARKER_LEN) {
            marker->matched = 0;
            out->used = n;
            out->found = 1;
            return;
        }
        if (n == len) {
            return; /* still undecided, nothing to pass on */
        }
        marker->matched = 0;
        out->replay = held;
        at = n;
    }
    while (at < len) {
        const uint8_t *start = memchr(data + at, marker->bytes[0], len - at);
        if (start == NULL) {
            break;
        }
        at = (size_t)(start - data);
        size_t n = marker_match(marker, 0, start, len - at);
        if (n == MARKER_LEN) {
            out->pass = at;
            out->used = at + n;
            out->found = 1;
            return;
        }
        if (n == len - at) {
            marker->matched = (uint8_t)n;
            out->pass = at;
            return;
        }
        at += n;
    }
    out->pass = len;
}
