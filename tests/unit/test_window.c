/*
 * The last minutes: slots that come and go, and percentiles against sorted values.
 */
#include "check.h"
#include "deferd/window.h"

#define SLOT ((uint64_t)WINDOW_SLOT_NS)
#define MS   1000000u

static int window_open(void **state)
{
    *state = calloc(1, sizeof(struct window));
    assert_non_null(*state);
    return 0;
}

static int window_close(void **state)
{
    free(*state);
    return 0;
}

static void a_slot_lasts_five_seconds(void **state)
{
    struct window *window = *state;
    struct window_slot *slot = window_now(window, 7 * SLOT);
    slot->requests = 3;
    assert_ptr_equal(window_now(window, 8 * SLOT - 1), slot);
    assert_int_equal(slot->requests, 3);
    assert_ptr_not_equal(window_now(window, 8 * SLOT), slot);
    assert_int_equal(slot->requests, 3);
}

static void what_was_is_found_until_it_is_too_long_ago(void **state)
{
    struct window *window = *state;
    uint64_t now = 100 * SLOT;
    window_now(window, now)->requests = 1;
    for (unsigned later = 0; later < WINDOW_SLOTS; later++) {
        const struct window_slot *slot = window_back(window, now + later * SLOT, later);
        assert_non_null(slot);
        assert_int_equal(slot->requests, 1);
    }
    assert_null(window_back(window, now + WINDOW_SLOTS * SLOT, WINDOW_SLOTS));
    assert_null(window_back(window, now + WINDOW_SLOTS * SLOT, 0));
    assert_null(window_back(window, now, 1));
}

static void a_slot_is_empty_when_its_place_is_used_again(void **state)
{
    struct window *window = *state;
    struct window_slot *slot = window_now(window, 5 * SLOT);
    slot->requests = 9;
    window_add(slot, WINDOW_QUEUE, 5 * MS);
    struct window_slot *again = window_now(window, (5 + WINDOW_SLOTS) * SLOT);
    struct window_sum sum = {0};
    assert_ptr_equal(again, slot);
    assert_int_equal(again->requests, 0);
    window_collect(&sum, again, WINDOW_QUEUE);
    assert_int_equal(sum.count, 0);
}

static void before_the_first_slot_there_is_nothing(void **state)
{
    struct window *window = *state;
    assert_null(window_back(window, 0, 0));
    assert_null(window_back(window, 3 * SLOT, 50));
    window_now(window, 0)->requests = 1;
    assert_int_equal(window_back(window, 0, 0)->requests, 1);
    assert_null(window_back(window, 0, 1));
}

static void kinds_of_times_do_not_mix(void **state)
{
    struct window *window = *state;
    struct window_slot *slot = window_now(window, SLOT);
    struct window_sum sum = {0};
    window_add(slot, WINDOW_QUEUE, MS);
    window_add(slot, WINDOW_QUEUE, MS);
    window_add(slot, WINDOW_DEFERRED, MS);
    window_collect(&sum, slot, WINDOW_QUEUE);
    assert_int_equal(sum.count, 2);
    window_collect(&sum, slot, WINDOW_RESPONSE);
    assert_int_equal(sum.count, 2);
    window_collect(&sum, slot, WINDOW_DEFERRED);
    assert_int_equal(sum.count, 3);
    window_collect(&sum, NULL, WINDOW_DEFERRED);
    assert_int_equal(sum.count, 3);
}

static void percentile_of_nothing_is_zero(void **state)
{
    struct window_sum sum = {0};
    (void)state;
    assert_true(window_percentile(&sum, 0.5) == 0);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

#define VALUES 5000

/* Values over many powers of two: what is said is never more than a quarter off, or 1 us. */
static void percentiles_are_those_of_the_sorted_values(void **state)
{
    static const double shares[] = {0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999};
    struct window *window = *state;
    struct window_slot *slot = window_now(window, SLOT);
    struct window_sum sum = {0};
    uint64_t values[VALUES];
    uint64_t seed = 42;
    for (size_t i = 0; i < VALUES; i++) {
        values[i] = check_random(&seed) >> (20 + check_below(&seed, 44));
        window_add(slot, WINDOW_RESPONSE, values[i]);
    }
    qsort(values, VALUES, sizeof(values[0]), by_size);
    window_collect(&sum, slot, WINDOW_RESPONSE);
    assert_int_equal(sum.count, VALUES);
    for (size_t i = 0; i < CHECK_COUNT(shares); i++) {
        double want = (double)values[(size_t)(shares[i] * VALUES) - 1] / 1e6;
        double got = window_percentile(&sum, shares[i]);
        double off = got > want ? got - want : want - got;
        if (off > want * 0.26 + 0.0011) {
            fail_msg("share %g: %g ms, sorted: %g ms", shares[i], got, want);
        }
    }
}

static void equal_values_give_that_value(void **state)
{
    struct window *window = *state;
    struct window_slot *slot = window_now(window, SLOT);
    struct window_sum sum = {0};
    for (int i = 0; i < 100; i++) {
        window_add(slot, WINDOW_QUEUE, 100 * MS);
    }
    window_collect(&sum, slot, WINDOW_QUEUE);
    double p50 = window_percentile(&sum, 0.5);
    double p99 = window_percentile(&sum, 0.99);
    assert_true(p50 > 87 && p50 < 115 && p99 >= p50 && p99 < 115);
}

static void the_longest_time_there_is_is_counted(void **state)
{
    struct window *window = *state;
    struct window_slot *slot = window_now(window, SLOT);
    struct window_sum sum = {0};
    window_add(slot, WINDOW_DEFERRED, UINT64_MAX);
    window_add(slot, WINDOW_DEFERRED, 0);
    window_collect(&sum, slot, WINDOW_DEFERRED);
    assert_int_equal(sum.count, 2);
    assert_true(window_percentile(&sum, 1) > 3600000.0);
    assert_true(window_percentile(&sum, 0.5) <= 0.001);
}

#define window_test(test) cmocka_unit_test_setup_teardown(test, window_open, window_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        window_test(a_slot_lasts_five_seconds),
        window_test(what_was_is_found_until_it_is_too_long_ago),
        window_test(a_slot_is_empty_when_its_place_is_used_again),
        window_test(before_the_first_slot_there_is_nothing),
        window_test(kinds_of_times_do_not_mix),
        cmocka_unit_test(percentile_of_nothing_is_zero),
        window_test(percentiles_are_those_of_the_sorted_values),
        window_test(equal_values_give_that_value),
        window_test(the_longest_time_there_is_is_counted),
    };
    return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
