/*
 * Name-value pairs, in both forms of their lengths, and how many of them fit into a record.
 */
#include "check.h"
#include "deferd/params.h"

#include <sys/mman.h>

/* A pair's two lengths, and whether each is written in the four-byte form. */
struct shape {
    size_t name_len;
    size_t value_len;
    int long_name;
    int long_value;
};

static size_t put_length(uint8_t *out, size_t length, int four)
{
    if (!four) {
        out[0] = (uint8_t)length;
        return 1;
    }
    out[0] = (uint8_t)(0x80 | length >> 24);
    out[1] = (uint8_t)(length >> 16);
    out[2] = (uint8_t)(length >> 8);
    out[3] = (uint8_t)length;
    return 4;
}

/* Writes a pair whose bytes tell where they stand. Returns its length. */
static size_t put_pair(uint8_t *out, const struct shape *shape)
{
    size_t at = put_length(out, shape->name_len, shape->long_name);
    at += put_length(out + at, shape->value_len, shape->long_value);
    for (size_t i = 0; i < shape->name_len; i++) {
        out[at++] = (uint8_t)(i * 7 + 1);
    }
    for (size_t i = 0; i < shape->value_len; i++) {
        out[at++] = (uint8_t)(i * 11 + 2);
    }
    return at;
}

static size_t pair_size(const struct shape *shape)
{
    return (shape->long_name ? 4u : 1u) + (shape->long_value ? 4u : 1u) + shape->name_len +
           shape->value_len;
}

static void is_pair(const struct param *param, const struct shape *shape, const uint8_t *at)
{
    size_t head = pair_size(shape) - shape->name_len - shape->value_len;
    assert_int_equal(param->name_len, shape->name_len);
    assert_int_equal(param->value_len, shape->value_len);
    assert_ptr_equal(param->name, at + head);
    assert_ptr_equal(param->value, at + head + shape->name_len);
}

/* A pair is read whole, with something behind it, and not at all when it is cut off anywhere. */
static void reads_only_whole(const struct shape *shape)
{
    uint64_t seed = 3;
    size_t size = pair_size(shape);
    uint8_t *pair = malloc(size + 5);
    struct param param;
    assert_non_null(pair);
    assert_int_equal(put_pair(pair, shape), size);
    memset(pair + size, 0xff, 5);
    for (size_t more = 0; more <= 5; more++) {
        assert_int_equal(params_next(pair, size + more, &param), size);
        is_pair(&param, shape, pair);
    }
    for (size_t len = 0; len < size; len++) {
        if (len > 20 && size - len > 20 && size > 1000 && check_below(&seed, 1000) > 0) {
            continue; /* of the long pairs' insides, a sample is enough */
        }
        uint8_t *part = check_copy(pair, len);
        assert_int_equal(params_next(part, len, &param), 0);
        free(part);
    }
    free(pair);
}

static void pairs_at_the_borders_of_both_forms_are_read(void **state)
{
    static const size_t lengths[] = {0, 1, 127, 128, 255, 256, 65535, 65536};
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(lengths) * CHECK_COUNT(lengths) * 4; i++) {
        struct shape shape = {
            .name_len = lengths[i / 4 % CHECK_COUNT(lengths)],
            .value_len = lengths[i / 4 / CHECK_COUNT(lengths)],
            .long_name = (int)(i & 1),
            .long_value = (int)(i >> 1 & 1),
        };
        shape.long_name |= shape.name_len > 127;
        shape.long_value |= shape.value_len > 127;
        reads_only_whole(&shape);
    }
}

static void lengths_that_promise_too_much_are_no_pair(void **state)
{
    static const size_t lengths[] = {0x7fffffff, 0x7ffffffe, 0x7fffff00, 0x40000000, 0x1000000};
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(lengths) * CHECK_COUNT(lengths); i++) {
        uint8_t bytes[8 + 16] = {0};
        struct param param;
        size_t name_len = lengths[i % CHECK_COUNT(lengths)];
        size_t value_len = lengths[i / CHECK_COUNT(lengths)];
        put_length(bytes, name_len, 1);
        put_length(bytes + 4, value_len, 1);
        assert_int_equal(params_next(bytes, sizeof(bytes), &param), 0);
        put_length(bytes, 4, 1);
        assert_int_equal(params_next(bytes, sizeof(bytes), &param), 0);
        put_length(bytes, name_len, 1);
        put_length(bytes + 4, 4, 1);
        assert_int_equal(params_next(bytes, sizeof(bytes), &param), 0);
    }
}

static void the_longest_lengths_do_not_overflow(void **state)
{
    const size_t most = 0x7fffffff;
    const size_t size = 8 + 2 * most;
    struct param param;
    (void)state;
    uint8_t *bytes =
        mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (bytes == MAP_FAILED || mprotect(bytes, 4096, PROT_READ | PROT_WRITE) != 0) {
        skip();
    }
    put_length(bytes, most, 1);
    put_length(bytes + 4, most, 1);
    assert_true(params_next(bytes, size, &param) == size);
    assert_true(param.name_len == most && param.value_len == most);
    assert_ptr_equal(param.name, bytes + 8);
    assert_ptr_equal(param.value, bytes + 8 + most);
    assert_true(params_next(bytes, size - 1, &param) == 0);
    assert_true(params_next(bytes, size - most, &param) == 0);
    assert_true(params_next(bytes, size - most - 1, &param) == 0);
    munmap(bytes, size);
}

#define PAIRS 24

/* A run of random pairs; ends[i] is where pair i ends. */
struct run {
    struct shape shapes[PAIRS];
    size_t ends[PAIRS];
    size_t count;
    uint8_t *bytes;
    size_t len;
};

static void run_make(struct run *run, uint64_t *seed)
{
    *run = (struct run){.count = check_below(seed, PAIRS + 1)};
    for (size_t i = 0; i < run->count; i++) {
        struct shape *shape = &run->shapes[i];
        shape->name_len = check_below(seed, check_below(seed, 4) > 0 ? 20 : 300);
        shape->value_len = check_below(seed, check_below(seed, 4) > 0 ? 20 : 300);
        shape->long_name = shape->name_len > 127 || check_below(seed, 4) == 0;
        shape->long_value = shape->value_len > 127 || check_below(seed, 4) == 0;
        run->len += pair_size(shape);
        run->ends[i] = run->len;
    }
    run->bytes = malloc(run->len + 1);
    assert_non_null(run->bytes);
    for (size_t i = 0; i < run->count; i++) {
        put_pair(run->bytes + (i > 0 ? run->ends[i - 1] : 0), &run->shapes[i]);
    }
}

static void pairs_are_read_one_after_another(void **state)
{
    uint64_t seed = 4;
    (void)state;
    for (int round = 0; round < 1000; round++) {
        struct run run;
        size_t at = 0;
        run_make(&run, &seed);
        for (size_t i = 0; i < run.count; i++) {
            struct param param;
            size_t n = params_next(run.bytes + at, run.len - at, &param);
            is_pair(&param, &run.shapes[i], run.bytes + at);
            at += n;
            assert_int_equal(at, run.ends[i]);
        }
        assert_int_equal(at, run.len);
        free(run.bytes);
    }
}

static void a_record_takes_as_many_whole_pairs_as_fit(void **state)
{
    uint64_t seed = 5;
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct run run;
        run_make(&run, &seed);
        uint8_t *bytes = check_copy(run.bytes, run.len);
        for (size_t max = 0; max <= run.len + 2; max++) {
            size_t fits = 0;
            for (size_t i = 0; i < run.count && run.ends[i] <= max; i++) {
                fits = run.ends[i];
            }
            assert_int_equal(params_fit(bytes, run.len, max), fits);
        }
        free(bytes);
        free(run.bytes);
    }
}

static void a_pair_of_a_whole_record_fits_and_a_longer_one_does_not(void **state)
{
    const struct shape shape = {.name_len = 7, .value_len = 65535 - 5 - 7, .long_value = 1};
    uint8_t *bytes = malloc(2 * 65535);
    (void)state;
    assert_non_null(bytes);
    assert_int_equal(put_pair(bytes, &shape), 65535);
    assert_int_equal(params_fit(bytes, 65535, 65535), 65535);
    assert_int_equal(params_fit(bytes, 65535, 65534), 0);
    assert_int_equal(put_pair(bytes + 65535, &shape), 65535);
    assert_int_equal(params_fit(bytes, 2 * 65535, 65535), 65535);
    assert_int_equal(params_fit(bytes, 2 * 65535, 65536), 65535);
    free(bytes);
}

static void a_broken_pair_ends_what_fits(void **state)
{
    (void)state;
    assert_int_equal(params_fit(CHECK_BYTES("\1\1ab\1\1cd\1\2ef"), 100), 8);
    assert_int_equal(params_fit(CHECK_BYTES("\1\2ef"), 100), 0);
    assert_int_equal(params_fit(CHECK_BYTES(""), 100), 0);
}

static void a_name_is_compared_in_all_its_bytes(void **state)
{
    static const struct {
        const char *name;
        size_t len;
        const char *wanted;
        int same;
    } rows[] = {
        {"REQUEST_URI", 11, "REQUEST_URI", 1},
        {"REQUEST_URI", 10, "REQUEST_URI", 0},
        {"REQUEST_URI", 11, "REQUEST_UR", 0},
        {"REQUEST_URI", 11, "request_uri", 0},
        {"REQUEST_URI", 11, "XEQUEST_URI", 0},
        {"REQUEST_URI", 11, "REQUEST_URX", 0},
        {"REQUEST\0URI", 11, "REQUEST", 0},
        {"", 0, "", 1},
        {"A", 1, "", 0},
        {"", 0, "A", 0},
    };
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        uint8_t *name = check_copy(rows[i].name, rows[i].len);
        const struct param param = {.name = name, .name_len = rows[i].len};
        assert_int_equal(params_is(&param, rows[i].wanted) != 0, rows[i].same);
        free(name);
    }
}

static void short_pairs_are_written_as_they_are_read(void **state)
{
    static const size_t lengths[] = {0, 1, 32, 126, 127};
    char name[128];
    char value[128];
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(lengths) * CHECK_COUNT(lengths); i++) {
        size_t name_len = lengths[i % CHECK_COUNT(lengths)];
        size_t value_len = lengths[i / CHECK_COUNT(lengths)];
        memset(name, 'n', name_len);
        memset(value, 'v', value_len);
        name[name_len] = '\0';
        value[value_len] = '\0';
        uint8_t *out = malloc(2 + name_len + value_len);
        struct param param;
        assert_non_null(out);
        assert_int_equal(params_put_short(out, name, value), 2 + name_len + value_len);
        assert_int_equal(params_next(out, 2 + name_len + value_len, &param),
                         2 + name_len + value_len);
        assert_true(params_is(&param, name));
        assert_int_equal(param.value_len, value_len);
        assert_memory_equal(param.value, value, value_len);
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_at_the_borders_of_both_forms_are_read),
        cmocka_unit_test(lengths_that_promise_too_much_are_no_pair),
        cmocka_unit_test(the_longest_lengths_do_not_overflow),
        cmocka_unit_test(pairs_are_read_one_after_another),
        cmocka_unit_test(a_record_takes_as_many_whole_pairs_as_fit),
        cmocka_unit_test(a_pair_of_a_whole_record_fits_and_a_longer_one_does_not),
        cmocka_unit_test(a_broken_pair_ends_what_fits),
        cmocka_unit_test(a_name_is_compared_in_all_its_bytes),
        cmocka_unit_test(short_pairs_are_written_as_they_are_read),
    };
    return cmocka_run_group_tests_name("params", tests, NULL, NULL);
}
