/*
 * What is counted when a request comes and ends.
 */
#include "check.h"
#include "deferd/pool.h"
#include "deferd/request.h"
#include "deferd/stats.h"

#include <stdio.h>

#define MS 1000000u

struct scene {
    struct pool_options options;
    struct pool pool;
    struct request request;
};

static int scene_open(void **state)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    scene->options.class_count = 2;
    snprintf(scene->options.classes[1].name, CLASS_NAME_MAX, "other");
    scene->pool.options = &scene->options;
    assert_int_equal(queue_open(&scene->pool.queue, scene->options.classes, 2, 4), 0);
    scene->request.class = &scene->pool.queue.classes[1];
    *state = scene;
    return 0;
}

static int scene_close(void **state)
{
    struct scene *scene = *state;
    queue_free(&scene->pool.queue);
    free(scene);
    return 0;
}

static uint64_t count(const struct stats_times *times)
{
    uint64_t n = 0;
    for (size_t i = 0; i <= STATS_BUCKETS; i++) {
        n += times->buckets[i];
    }
    return n;
}

static void a_time_is_in_the_first_bucket_that_is_not_below_it(void **state)
{
    static const struct {
        uint64_t ns;
        size_t bucket;
    } rows[] = {
        {0, 0},
        {MS, 0},
        {MS + 1, 1},
        {2500000, 1},
        {2500001, 2},
        {1000 * (uint64_t)MS, 9},
        {300000 * (uint64_t)MS, STATS_BUCKETS - 1},
        {300000 * (uint64_t)MS + 1, STATS_BUCKETS},
        {UINT64_MAX / 2, STATS_BUCKETS},
    };
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        struct stats_times times = {0};
        stats_add_time(&times, rows[i].ns);
        assert_int_equal(times.buckets[rows[i].bucket], 1);
        assert_int_equal(count(&times), 1);
        assert_true(times.sum == rows[i].ns);
    }
}

static void an_answered_request_counts_its_times(void **state)
{
    struct scene *scene = *state;
    const struct stats_class *stats = &scene->request.class->stats;
    scene->request.submitted = 100 * MS;
    scene->request.dispatched = 103 * MS;
    scene->request.answered = 120 * MS;
    scene->request.deferred = 120 * MS; /* its barrier was waited for */
    scene->request.ended = 121 * MS;
    stats_request_ended(&scene->pool, &scene->request, OUTCOME_ANSWERED);
    assert_int_equal(stats->outcomes[OUTCOME_ANSWERED], 1);
    assert_true(stats->queue.sum == 3 * MS && count(&stats->queue) == 1);
    assert_true(stats->response.sum == 20 * MS && count(&stats->response) == 1);
    assert_int_equal(count(&stats->deferred), 0);
}

static void a_phase_counts_its_time_and_tasks(void **state)
{
    struct scene *scene = *state;
    struct request *request = &scene->request;
    const struct stats_pool *stats = &scene->pool.stats;
    request->submitted = 100 * MS;
    request->dispatched = 100 * MS;
    request->answered = 110 * MS;
    request->deferred = 110 * MS;
    request->ended = 160 * MS;
    request->deferral.total = 10;
    request->deferral.done = 4;
    request->deferral.failed = 2;
    request->deferral.skipped = 1;
    stats_request_ended(&scene->pool, request, OUTCOME_LOST);
    assert_true(request->class->stats.deferred.sum == 50 * MS);
    assert_int_equal(count(&request->class->stats.deferred), 1);
    assert_int_equal(stats->tasks_done, 4);
    assert_int_equal(stats->tasks_failed, 2);
    assert_int_equal(stats->tasks_skipped, 1);
    assert_int_equal(stats->tasks_unfinished, 3);
}

static void a_request_that_never_got_a_worker_waited_to_its_end(void **state)
{
    struct scene *scene = *state;
    const struct stats_class *stats = &scene->request.class->stats;
    scene->request.submitted = 100 * MS;
    scene->request.ended = 150 * MS;
    stats_request_ended(&scene->pool, &scene->request, OUTCOME_CLIENT_GONE);
    assert_true(stats->queue.sum == 50 * MS && count(&stats->queue) == 1);
    assert_int_equal(count(&stats->response), 0);
}

static void one_that_never_was_complete_is_of_the_default_class(void **state)
{
    struct scene *scene = *state;
    const struct stats_class *stats = &scene->pool.queue.classes[0].stats;
    scene->request.class = NULL;
    scene->request.answered = 100 * MS;
    scene->request.ended = 100 * MS;
    stats_request_ended(&scene->pool, &scene->request, OUTCOME_REJECTED);
    assert_int_equal(stats->outcomes[OUTCOME_REJECTED], 1);
    assert_int_equal(count(&stats->queue), 0);
    assert_int_equal(count(&stats->response), 0);
}

static void failures_are_counted_in_their_slot(void **state)
{
    struct scene *scene = *state;
    unsigned failures = 0;
    scene->request.ended = 100 * MS;
    for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
        failures += outcome_is_failure((enum outcome)i) != 0;
        stats_request_ended(&scene->pool, &scene->request, (enum outcome)i);
    }
    const struct window_slot *slot = window_back(&scene->pool.window, 100 * MS, 0);
    assert_int_equal(slot->requests, OUTCOME_COUNT);
    assert_int_equal(slot->failed, failures);
    assert_false(outcome_is_failure(OUTCOME_ANSWERED) || outcome_is_failure(OUTCOME_COMPLETED) ||
                 outcome_is_failure(OUTCOME_CLIENT_GONE));
    assert_true(outcome_is_failure(OUTCOME_LOST) && outcome_is_failure(OUTCOME_QUEUE_FULL));
}

static void the_most_that_waited_is_kept(void **state)
{
    static const unsigned waiting[] = {0, 3, 7, 2};
    struct scene *scene = *state;
    for (size_t i = 0; i < CHECK_COUNT(waiting); i++) {
        scene->pool.queue.waiting = waiting[i];
        scene->pool.busy = 10 - waiting[i];
        stats_request_came(&scene->pool, 100 * MS);
    }
    const struct window_slot *slot = window_back(&scene->pool.window, 100 * MS, 0);
    assert_int_equal(scene->pool.stats.submitted, 4);
    assert_int_equal(scene->pool.stats.queue_peak, 7);
    assert_int_equal(slot->waiting, 7);
    assert_int_equal(slot->busy, 10);
}

#define scene_test(test) cmocka_unit_test_setup_teardown(test, scene_open, scene_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_time_is_in_the_first_bucket_that_is_not_below_it),
        scene_test(an_answered_request_counts_its_times),
        scene_test(a_phase_counts_its_time_and_tasks),
        scene_test(a_request_that_never_got_a_worker_waited_to_its_end),
        scene_test(one_that_never_was_complete_is_of_the_default_class),
        scene_test(failures_are_counted_in_their_slot),
        scene_test(the_most_that_waited_is_kept),
    };
    return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
