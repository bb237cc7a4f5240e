/*
 * The phases that ended last: how many are kept, and how much memory they take up.
 */
#include "check.h"
#include "deferd/history.h"

static struct phase *phase(uint64_t id, size_t size)
{
    struct phase *made = calloc(1, size);
    assert_non_null(made);
    made->size = size;
    made->id = id;
    return made;
}

static void add(struct history *history, uint64_t from, uint64_t to, size_t size)
{
    for (uint64_t id = from; id <= to; id++) {
        history_add(history, phase(id, size));
    }
}

static void the_last_are_kept_in_order(void **state)
{
    static struct history history;
    (void)state;
    add(&history, 1, HISTORY_COUNT + 500, sizeof(struct phase));
    assert_int_equal(history.count, HISTORY_COUNT);
    for (unsigned i = 0; i < HISTORY_COUNT; i++) {
        assert_int_equal(history_at(&history, i)->id, 501 + i);
    }
    assert_null(history_find(&history, 500));
    assert_int_equal(history_find(&history, 501)->id, 501);
    assert_int_equal(history_find(&history, HISTORY_COUNT + 500)->id, HISTORY_COUNT + 500);
    history_free(&history);
    assert_int_equal(history.bytes, 0);
}

static void bytes_are_bounded_too(void **state)
{
    static struct history history;
    size_t size = HISTORY_BYTES / 10;
    (void)state;
    add(&history, 1, 100, size);
    assert_int_equal(history.count, 10);
    assert_int_equal(history.bytes, 10 * size);
    assert_int_equal(history_at(&history, 0)->id, 91);
    add(&history, 101, 101, sizeof(struct phase)); /* makes as much room as it needs */
    assert_int_equal(history.count, 10);
    assert_int_equal(history_at(&history, 0)->id, 92);
    add(&history, 102, 102, HISTORY_BYTES);
    assert_int_equal(history.count, 1);
    history_free(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_are_kept_in_order),
        cmocka_unit_test(bytes_are_bounded_too),
    };
    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
