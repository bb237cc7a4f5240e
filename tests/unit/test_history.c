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

/* One that ended then, in another process. */
static struct phase *ended(uint64_t id, double at)
{
    struct phase *made = phase(id, sizeof(struct phase));
    made->started = at - 1;
    made->age_ms = 1000;
    return made;
}

static void assert_ids(const struct history *history, const uint64_t *ids, unsigned count)
{
    assert_int_equal(history->count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(history_at(history, i)->id, ids[i]);
    }
}

static void what_ended_elsewhere_goes_to_its_place(void **state)
{
    static struct history history;
    (void)state;
    history_add(&history, ended(10, 100));
    history_add(&history, ended(11, 110));
    history_insert(&history, ended(3, 105));
    history_insert(&history, ended(1, 90));
    history_insert(&history, ended(20, 120));
    history_insert(&history, ended(2, 90)); /* at once: in the order in which they come */
    assert_ids(&history, (const uint64_t[]){1, 2, 10, 3, 11, 20}, 6);
    assert_int_equal(history.bytes, 6 * sizeof(struct phase));
    history_free(&history);
}

static void what_is_there_already_stays_as_it_is(void **state)
{
    static struct history history;
    (void)state;
    history_insert(&history, ended(1, 100));
    history_insert(&history, ended(2, 110));
    history_insert(&history, ended(1, 120));
    assert_ids(&history, (const uint64_t[]){1, 2}, 2);
    history_free(&history);
}

static void what_is_older_than_all_makes_nobody_leave(void **state)
{
    static struct history history;
    (void)state;
    for (uint64_t id = 1; id <= HISTORY_COUNT; id++) {
        history_add(&history, ended(id, 1000 + (double)id));
    }
    history_insert(&history, ended(5000, 999));
    assert_null(history_find(&history, 5000));
    assert_int_equal(history_at(&history, 0)->id, 1);
    history_insert(&history, ended(5001, 1001.5)); /* the oldest goes for this one */
    assert_int_equal(history.count, HISTORY_COUNT);
    assert_int_equal(history_at(&history, 0)->id, 5001);
    assert_int_equal(history_at(&history, 1)->id, 2);
    history_free(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_are_kept_in_order),
        cmocka_unit_test(bytes_are_bounded_too),
        cmocka_unit_test(what_ended_elsewhere_goes_to_its_place),
        cmocka_unit_test(what_is_there_already_stays_as_it_is),
        cmocka_unit_test(what_is_older_than_all_makes_nobody_leave),
    };
    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
