/*
 * Cutting into lines: in any pieces the same lines come, in order, and nothing is lost between
 * them.
 */
#include "deferd/lines.h"
#include "fuzz.h"

/* The line of the stream that comes next. */
static size_t next_line(const struct fuzz_pieces *stream, size_t from, int *whole)
{
    const uint8_t *lf = memchr(stream->data + from, '\n', stream->len - from);
    *whole = lf != NULL;
    return lf != NULL ? (size_t)(lf - stream->data) - from : stream->len - from;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_pieces stream;
    struct lines lines = {0};
    struct lines_event ev;
    size_t from = 0;
    size_t len;
    int whole;
    if (size < 1 || fuzz_pieces_open(&stream, data + 1, size - 1) != 0) {
        return 0;
    }
    size_t max = 2 + (size_t)data[0] * 4;
    while (fuzz_pieces_next(&stream)) {
        size_t at = 0;
        while (at < stream.piece_len) {
            at += lines_next(&lines, stream.piece + at, stream.piece_len - at, max, &ev);
            if (ev.kind == LINES_MORE) {
                continue;
            }
            len = next_line(&stream, from, &whole);
            fuzz_assert((ev.kind == LINES_LINE) == (whole && len + 1 <= max));
            fuzz_assert(ev.kind == LINES_LONG ? ev.len > 0 && ev.len <= len : ev.len == len);
            fuzz_assert(memcmp(ev.data, stream.data + from, ev.len) == 0);
            from += whole ? len + 1 : len;
        }
        fuzz_assert(at == stream.piece_len);
        fuzz_assert(lines.len < max);
    }
    len = next_line(&stream, from, &whole);
    lines_last(&lines, &ev);
    fuzz_assert(!whole && (ev.kind == LINES_LINE) == (len > 0));
    fuzz_assert(ev.kind == LINES_MORE ||
                (ev.len == len && memcmp(ev.data, stream.data + from, len) == 0));
    lines_free(&lines);
    return 0;
}
