/*
 * What the fuzzers share: an assertion that is never compiled out, and a source of piece lengths
 * that the fuzzer's own input decides.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define fuzz_assert(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Cuts a stream into pieces, each a copy of exactly its length so that ASan sees a read beyond it.
 * How, is said by the input's first bytes. */
struct fuzz_pieces {
    const uint8_t *data;
    size_t len;
    size_t at;      /* where the next piece begins */
    uint8_t *piece; /* owned; the last one */
    size_t piece_len;
    uint64_t seed;
    size_t most;
};

#define FUZZ_CUTS 4

/* Takes the first FUZZ_CUTS bytes of the input off. Returns -1 if there are none. */
static inline int fuzz_pieces_open(struct fuzz_pieces *pieces, const uint8_t *data, size_t size)
{
    if (size < FUZZ_CUTS) {
        return -1;
    }
    *pieces = (struct fuzz_pieces){.data = data + FUZZ_CUTS, .len = size - FUZZ_CUTS};
    pieces->seed = (uint64_t)data[0] << 16 | (uint64_t)data[1] << 8 | data[2];
    pieces->most = (size_t)data[3] + 1;
    return 0;
}

/* Makes the next piece. Returns 0 at the end of the stream. */
static inline int fuzz_pieces_next(struct fuzz_pieces *pieces)
{
    free(pieces->piece);
    pieces->piece = NULL;
    if (pieces->at == pieces->len) {
        return 0;
    }
    pieces->seed = pieces->seed * 6364136223846793005u + 1442695040888963407u;
    size_t left = pieces->len - pieces->at;
    size_t n = 1 + (size_t)(pieces->seed >> 33) % pieces->most;
    pieces->piece_len = n < left ? n : left;
    pieces->piece = malloc(pieces->piece_len);
    fuzz_assert(pieces->piece != NULL);
    memcpy(pieces->piece, pieces->data + pieces->at, pieces->piece_len);
    pieces->at += pieces->piece_len;
    return 1;
}

/* Gives the last piece back when the stream is left before its end. */
static inline void fuzz_pieces_close(struct fuzz_pieces *pieces)
{
    free(pieces->piece);
    pieces->piece = NULL;
}

#endif
