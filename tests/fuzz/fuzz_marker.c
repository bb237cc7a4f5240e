/*
 * The search for the marker, against a search over the whole stream. So that the fuzzer gets there,
 * bytes from 0x80 on stand for parts of the marker; the others are themselves.
 */
#include "../unit/naive.h"
#include "deferd/marker.h"
#include "fuzz.h"

#define STREAM_MAX 4096
#define TOKEN      "00112233445566778899aabbccddeeff"

/* Where from and how much of the marker each of the bytes 0x80 to 0xff stands for. */
static size_t expand(const struct marker *marker, const uint8_t *data, size_t len, uint8_t *out)
{
    size_t made = 0;
    for (size_t i = 0; i < len && made + MARKER_LEN <= STREAM_MAX; i++) {
        size_t from = data[i] >= 0xc0 ? (size_t)(data[i] & 0x3f) % MARKER_LEN : 0;
        size_t n = data[i] >= 0xc0 ? MARKER_LEN - from : (size_t)(data[i] & 0x3f) % MARKER_LEN;
        if (data[i] < 0x80) {
            out[made++] = data[i];
        } else {
            memcpy(out + made, marker->bytes + from, n);
            made += n;
        }
    }
    return made;
}

/* Checks one answer; done bytes of the response have come before it. Returns how many have now. */
static size_t check_scan(const struct marker *marker, const struct fuzz_pieces *stream, size_t done,
                         const struct marker_scan *scan)
{
    int found;
    size_t due = naive_response(stream->data, stream->at, marker->bytes, MARKER_LEN, &found);
    size_t begin = stream->at - stream->piece_len;
    fuzz_assert(scan->found == found);
    fuzz_assert(done + scan->replay + scan->pass == due);
    fuzz_assert(scan->replay <= MARKER_LEN && scan->pass <= scan->used);
    fuzz_assert(memcmp(stream->data + done, marker->bytes, scan->replay) == 0);
    fuzz_assert(scan->pass == 0 || done + scan->replay == begin);
    fuzz_assert(begin + scan->used == (found ? due + MARKER_LEN : stream->at));
    return due;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t expanded[STREAM_MAX];
    struct fuzz_pieces stream;
    struct marker marker;
    struct marker_scan scan;
    size_t done = 0;
    if (fuzz_pieces_open(&stream, data, size) != 0) {
        return 0;
    }
    marker_init(&marker, TOKEN);
    stream.len = expand(&marker, stream.data, stream.len, expanded);
    stream.data = expanded;
    while (fuzz_pieces_next(&stream)) {
        marker_scan(&marker, stream.piece, stream.piece_len, &scan);
        done = check_scan(&marker, &stream, done, &scan);
        if (scan.found) {
            break;
        }
        fuzz_assert(marker.matched == stream.at - done);
    }
    fuzz_pieces_close(&stream);
    return 0;
}
