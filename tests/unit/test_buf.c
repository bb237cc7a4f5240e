/*
 * The growing buffer.
 */
#include "check.h"
#include "deferd/buf.h"

#include <uv.h>

/* ASan would end the program at an allocation that cannot succeed, instead of refusing it. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void a_zeroed_buffer_is_empty(void **state)
{
    struct buf buf = {0};
    (void)state;
    assert_int_equal(buf_append(&buf, NULL, 0), 0);
    assert_int_equal(buf_append(&buf, "", 0), 0);
    assert_int_equal(buf_reserve(&buf, 0), 0);
    assert_int_equal(buf.len, 0);
    buf_free(&buf);
    buf_free(&buf);
}

static void what_is_appended_stays_in_order(void **state)
{
    uint64_t seed = 10;
    uint8_t *all = malloc(1 << 20);
    struct buf buf = {0};
    size_t len = 0;
    (void)state;
    assert_non_null(all);
    while (len < (1 << 20) - 4096) {
        size_t n = check_below(&seed, check_below(&seed, 4) > 0 ? 32 : 4096);
        for (size_t i = 0; i < n; i++) {
            all[len + i] = (uint8_t)check_random(&seed);
        }
        assert_int_equal(buf_append(&buf, all + len, n), 0);
        len += n;
        assert_int_equal(buf.len, len);
        assert_true(buf.cap >= buf.len);
    }
    assert_memory_equal(buf.data, all, len);
    buf_free(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.len + buf.cap, 0);
    free(all);
}

static void reserved_room_can_be_written(void **state)
{
    (void)state;
    for (size_t len = 0; len < 70; len++) {
        for (size_t more = 0; more < 70; more++) {
            struct buf buf = {0};
            uint8_t old[70];
            memset(old, 'o', sizeof(old));
            assert_int_equal(buf_append(&buf, old, len), 0);
            assert_int_equal(buf_reserve(&buf, more), 0);
            assert_int_equal(buf.len, len);
            assert_true(buf.cap - buf.len >= more);
            if (more > 0) {
                memset(buf.data + buf.len, 'n', more);
            }
            assert_true(len == 0 || memcmp(buf.data, old, len) == 0);
            buf_free(&buf);
        }
    }
}

static void room_that_is_there_is_not_taken_again(void **state)
{
    struct buf buf = {0};
    (void)state;
    assert_int_equal(buf_reserve(&buf, 100), 0);
    const uint8_t *data = buf.data;
    size_t cap = buf.cap;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(buf_append(&buf, "x", 1), 0);
        assert_ptr_equal(buf.data, data);
    }
    assert_int_equal(buf.cap, cap);
    buf_free(&buf);
}

static void growth_is_geometric(void **state)
{
    struct buf buf = {0};
    size_t grown = 0;
    size_t cap = 0;
    (void)state;
    for (size_t i = 0; i < 1 << 20; i++) {
        assert_int_equal(buf_append(&buf, "x", 1), 0);
        grown += buf.cap != cap;
        cap = buf.cap;
    }
    assert_in_range(grown, 1, 40);
    assert_in_range(buf.cap, 1 << 20, 2 << 20);
    buf_free(&buf);
}

static void without_memory_nothing_changes(void **state)
{
    const size_t too_much = (size_t)1 << 62;
    struct buf buf = {0};
    (void)state;
    assert_int_equal(buf_reserve(&buf, too_much), UV_ENOMEM);
    assert_null(buf.data);
    assert_int_equal(buf_append(&buf, "abc", 3), 0);
    const struct buf before = buf;
    assert_int_equal(buf_reserve(&buf, too_much), UV_ENOMEM);
    assert_int_equal(buf_append(&buf, "", too_much), UV_ENOMEM);
    assert_ptr_equal(buf.data, before.data);
    assert_int_equal(buf.len, before.len);
    assert_int_equal(buf.cap, before.cap);
    assert_memory_equal(buf.data, "abc", 3);
    buf_free(&buf);
}

static void more_than_can_be_counted_is_no_room(void **state)
{
    struct buf buf = {0};
    (void)state;
    assert_int_equal(buf_append(&buf, "abc", 3), 0);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX - 1), UV_ENOMEM);
    assert_int_equal(buf.len, 3);
    assert_memory_equal(buf.data, "abc", 3);
    buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zeroed_buffer_is_empty),
        cmocka_unit_test(what_is_appended_stays_in_order),
        cmocka_unit_test(reserved_room_can_be_written),
        cmocka_unit_test(room_that_is_there_is_not_taken_again),
        cmocka_unit_test(growth_is_geometric),
        cmocka_unit_test(more_than_can_be_counted_is_no_room),
        cmocka_unit_test(without_memory_nothing_changes),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
