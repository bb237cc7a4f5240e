/*
 * What the unit tests share: cmocka with the headers it wants, copies of exactly their size, random
 * numbers that are the same in every run, and the ways to cut a stream into pieces.
 */
#ifndef CHECK_H
#define CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHECK_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A string literal's bytes and length, without the terminating NUL. */
#define CHECK_BYTES(literal) (const uint8_t *)(literal), sizeof(literal) - 1

/* A copy in memory of exactly its size, so that ASan and valgrind see a read beyond it. The caller
 * frees it. */
static inline uint8_t *check_copy(const void *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    if (len > 0) {
        memcpy(copy, data, len);
    }
    return copy;
}

/* splitmix64: small, and the same everywhere. */
static inline uint64_t check_random(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A number below bound, which must not be 0. */
static inline size_t check_below(uint64_t *seed, size_t bound)
{
    return (size_t)(check_random(seed) % bound);
}

enum check_way {
    CHECK_WHOLE,  /* in one piece */
    CHECK_SINGLE, /* byte by byte */
    CHECK_SPLIT,  /* in two, at at */
    CHECK_RANDOM, /* in pieces of random lengths, from seed on */
};

struct check_cuts {
    enum check_way way;
    size_t at;
    uint64_t seed;
};

/* The length of the piece that begins at from, at least 1; from must be below len. */
static inline size_t check_piece(struct check_cuts *cuts, size_t from, size_t len)
{
    size_t left = len - from;
    size_t most;
    switch (cuts->way) {
    case CHECK_SINGLE:
        return 1;
    case CHECK_SPLIT:
        return from < cuts->at && cuts->at < len ? cuts->at - from : left;
    case CHECK_RANDOM:
        most = check_below(&cuts->seed, 4) > 0 && left > 16 ? 16 : left;
        return 1 + check_below(&cuts->seed, most);
    case CHECK_WHOLE:
        break;
    }
    return left;
}

/* Fails the test and says by which cut. */
#define check_that(condition, cuts)                                                                \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fail_msg("%s; way %d, at %zu, seed %llx", #condition, (int)(cuts)->way, (cuts)->at,    \
                     (unsigned long long)(cuts)->seed);                                            \
        }                                                                                          \
    } while (0)

typedef void (*check_run)(const void *arg, struct check_cuts cuts);

/* Runs a test of len bytes whole, byte by byte and split in two at every position. */
static inline void check_all_cuts(check_run run, const void *arg, size_t len)
{
    run(arg, (struct check_cuts){.way = CHECK_WHOLE});
    run(arg, (struct check_cuts){.way = CHECK_SINGLE});
    for (size_t at = 1; at < len; at++) {
        run(arg, (struct check_cuts){.way = CHECK_SPLIT, .at = at});
    }
}

#endif
