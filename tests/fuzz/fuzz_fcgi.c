/*
 * The record reader: any bytes, in any pieces, give the records that a walk over the whole finds.
 */
#include "deferd/fcgi.h"
#include "fuzz.h"

/* What a walk over the whole stream knows of the record that begins at at. */
struct expected {
    size_t at;
    size_t content;
    size_t end;
    int announced;
};

static void expect(struct expected *expected, const uint8_t *data, size_t len, size_t at)
{
    *expected = (struct expected){.at = at};
    if (len - at >= FCGI_HEADER_LEN) {
        expected->content = at + FCGI_HEADER_LEN;
        expected->end =
            expected->content + (size_t)(data[at + 4] << 8 | data[at + 5]) + data[at + 6];
    }
}

/* Returns 1 if the stream cannot be read on. */
static int check_event(struct expected *expected, const struct fuzz_pieces *stream, size_t done,
                       const struct fcgi_event *ev)
{
    const uint8_t *data = stream->data;
    const uint8_t *header = data + expected->at;
    switch (ev->kind) {
    case FCGI_EV_MORE:
        return 0;
    case FCGI_EV_VERSION:
        fuzz_assert(!expected->announced && done > expected->at && header[0] != FCGI_VERSION_1);
        return 1;
    case FCGI_EV_RECORD:
        expect(expected, data, stream->len, expected->at);
        fuzz_assert(!expected->announced && done == expected->content);
        fuzz_assert(header[0] == FCGI_VERSION_1);
        expected->announced = 1;
        break;
    case FCGI_EV_CONTENT:
        fuzz_assert(expected->announced && ev->len > 0);
        fuzz_assert(done - ev->len >= expected->content);
        fuzz_assert(done <= expected->end - header[6]);
        fuzz_assert(memcmp(ev->data, data + done - ev->len, ev->len) == 0);
        break;
    case FCGI_EV_END:
        fuzz_assert(expected->announced && done == expected->end);
        expect(expected, data, stream->len, done);
        break;
    }
    fuzz_assert(ev->type == header[1]);
    fuzz_assert(ev->id == (header[2] << 8 | header[3]));
    fuzz_assert(ev->length == (header[4] << 8 | header[5]));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_pieces stream;
    struct fcgi_reader reader = {0};
    struct expected expected;
    struct fcgi_event ev = {.kind = FCGI_EV_MORE};
    if (fuzz_pieces_open(&stream, data, size) != 0) {
        return 0;
    }
    expect(&expected, stream.data, stream.len, 0);
    while (fuzz_pieces_next(&stream)) {
        size_t begin = stream.at - stream.piece_len;
        size_t at = 0;
        do {
            size_t used = fcgi_read(&reader, stream.piece + at, stream.piece_len - at, &ev);
            fuzz_assert(used <= stream.piece_len - at);
            at += used;
            if (check_event(&expected, &stream, begin + at, &ev) != 0) {
                fuzz_pieces_close(&stream);
                return 0;
            }
        } while (ev.kind != FCGI_EV_MORE);
        fuzz_assert(at == stream.piece_len);
        fuzz_assert(fcgi_reader_idle(&reader) == (expected.at == stream.at));
        fuzz_assert(!expected.announced || stream.at < expected.end);
    }
    return 0;
}
