/*
 * The requests that wait: whose turn it is, and whose time is up first.
 */
#include "check.h"
#include "deferd/queue.h"
#include "deferd/request.h"

#define MS 1000000u /* of uv_hrtime() */

#define EVERY                                                                                      \
    {                                                                                              \
        100, 1                                                                                     \
    }

static void a_share_is_a_number_or_a_percentage_of_all(void **state)
{
    static const struct {
        struct share share;
        unsigned all;
        unsigned want;
    } rows[] = {
        {{1, 0}, 10, 1},
        {{10, 0}, 10, 10},
        {{11, 0}, 10, 10},
        {{1000000, 0}, 10, 10},
        {{0, 0}, 10, 1},
        {{100, 1}, 10, 10},
        {{50, 1}, 10, 5},
        {{55, 1}, 10, 5},
        {{99, 1}, 10, 9},
        {{99, 1}, 100, 99},
        {{10, 1}, 10, 1},
        {{1, 1}, 10, 1},
        {{1, 1}, 1, 1},
        {{100, 1}, 64000000, 64000000},
        {{99, 1}, 64000000, 63360000},
    };
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        assert_int_equal(share_of(&rows[i].share, rows[i].all), rows[i].want);
    }
}

static void classes_get_their_share_of_the_workers(void **state)
{
    static const struct class_options options[] = {
        {"default", EVERY, 0, 1},
        {"half", {50, 1}, 0, 1},
        {"three", {3, 0}, 0, 1},
        {"many", {300, 0}, 0, 1},
    };
    struct queue queue;
    (void)state;
    assert_int_equal(queue_open(&queue, options, CHECK_COUNT(options), 9), 0);
    assert_int_equal(queue.count, CHECK_COUNT(options));
    assert_int_equal(queue.classes[0].max_workers, 9);
    assert_int_equal(queue.classes[1].max_workers, 4);
    assert_int_equal(queue.classes[2].max_workers, 3);
    assert_int_equal(queue.classes[3].max_workers, 9);
    queue_free(&queue);
    assert_null(queue.classes);
}

static void a_class_is_found_by_its_whole_name(void **state)
{
    static const struct class_options options[] = {
        {"default", EVERY, 0, 1},
        {"admin", EVERY, 0, 1},
        {"administration", EVERY, 0, 1},
    };
    static const struct {
        const char *name;
        size_t len;
        int class; /* -1: none */
    } rows[] = {
        {"default", 7, 0},
        {"admin", 5, 1},
        {"administration", 14, 2},
        {"Admin", 5, -1},
        {"admi", 4, -1},
        {"administr", 9, -1},
        {"admin\0", 6, -1},
        {"admin ", 6, -1},
        {"", 0, -1},
        {"administrationx", 15, -1},
        {"xdmin", 5, -1},
    };
    struct queue queue;
    (void)state;
    assert_int_equal(queue_open(&queue, options, CHECK_COUNT(options), 1), 0);
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        uint8_t *name = check_copy(rows[i].name, rows[i].len);
        assert_ptr_equal(queue_class(&queue, name, rows[i].len),
                         rows[i].class < 0 ? NULL : &queue.classes[rows[i].class]);
        free(name);
    }
    queue_free(&queue);
}

/* --- order ------------------------------------------------------------------------------------ */

#define WAITING 8

/* A queue with classes of a low, a high and again the low priority, of two workers each, and
 * requests for it. */
struct line {
    struct queue queue;
    struct request requests[WAITING];
};

enum { LOW, HIGH, LOW_TOO };

static const struct class_options line_options[] = {
    [LOW] = {"default", {2, 0}, 1, 300},
    [HIGH] = {"high", {2, 0}, 2, 200},
    [LOW_TOO] = {"other", {2, 0}, 1, 100},
};

static int line_open(void **state)
{
    struct line *line = calloc(1, sizeof(*line));
    assert_non_null(line);
    assert_int_equal(queue_open(&line->queue, line_options, CHECK_COUNT(line_options), 6), 0);
    *state = line;
    return 0;
}

static int line_close(void **state)
{
    struct line *line = *state;
    queue_free(&line->queue);
    free(line);
    return 0;
}

/* Request i joins its class; its params were complete at this time. */
static struct request *join(struct line *line, unsigned i, unsigned class, uint64_t submitted)
{
    struct request *request = &line->requests[i];
    *request = (struct request){.class = &line->queue.classes[class], .submitted = submitted};
    queue_push(&line->queue, request, 0);
    return request;
}

/* The one whose turn it is leaves, as for a worker. Returns its number, -1 if there is none. */
static int leave(struct line *line)
{
    struct request *request = queue_next(&line->queue);
    if (request == NULL) {
        return -1;
    }
    assert_ptr_equal(queue_next(&line->queue), request); /* asking changes nothing */
    assert_true(request->queued);
    queue_remove(&line->queue, request);
    assert_false(request->queued);
    return (int)(request - line->requests);
}

static void leave_in_this_order(struct line *line, const int *numbers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(line->queue.waiting, count - i);
        assert_int_equal(leave(line), numbers[i]);
    }
    assert_int_equal(line->queue.waiting, 0);
    assert_int_equal(leave(line), -1);
}

#define leave_as(line, ...)                                                                        \
    leave_in_this_order(line, (const int[]){__VA_ARGS__},                                          \
                        sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static void an_empty_queue_has_nobody(void **state)
{
    struct line *line = *state;
    uint64_t deadline;
    assert_null(queue_next(&line->queue));
    assert_null(queue_oldest(&line->queue, &deadline));
    assert_int_equal(line->queue.waiting, 0);
}

static void within_a_class_the_first_to_come_is_served_first(void **state)
{
    struct line *line = *state;
    for (unsigned i = 0; i < 5; i++) {
        join(line, i, LOW, 10 + i);
    }
    leave_as(line, 0, 1, 2, 3, 4);
    /* Also those of one moment. */
    for (unsigned i = 0; i < 5; i++) {
        join(line, i, LOW, 10);
    }
    leave_as(line, 0, 1, 2, 3, 4);
}

static void a_higher_priority_goes_before_age(void **state)
{
    struct line *line = *state;
    join(line, 0, LOW, 10);
    join(line, 1, LOW_TOO, 11);
    join(line, 2, HIGH, 20);
    join(line, 3, HIGH, 30);
    leave_as(line, 2, 3, 0, 1);
}

static void among_equal_priorities_the_oldest_goes_first(void **state)
{
    struct line *line = *state;
    join(line, 0, LOW_TOO, 10);
    join(line, 1, LOW, 11);
    join(line, 2, LOW, 12);
    join(line, 3, LOW_TOO, 13);
    join(line, 4, LOW, 14);
    leave_as(line, 0, 1, 2, 3, 4);
}

static void a_class_with_all_its_workers_busy_is_passed_by(void **state)
{
    struct line *line = *state;
    struct queue_class *high = &line->queue.classes[HIGH];
    join(line, 0, LOW_TOO, 12);
    join(line, 1, LOW, 11);
    join(line, 2, HIGH, 10);
    high->busy = 1;
    assert_ptr_equal(queue_next(&line->queue), &line->requests[2]);
    high->busy = 2;
    assert_ptr_equal(queue_next(&line->queue), &line->requests[1]);
    line->queue.classes[LOW].busy = 3;
    assert_ptr_equal(queue_next(&line->queue), &line->requests[0]);
    line->queue.classes[LOW_TOO].busy = 2;
    assert_null(queue_next(&line->queue));
    assert_int_equal(line->queue.waiting, 3);
    high->busy = 0;
    line->queue.classes[LOW].busy = 0;
    line->queue.classes[LOW_TOO].busy = 0;
    leave_as(line, 2, 1, 0);
}

static void one_that_waited_before_goes_where_its_age_belongs(void **state)
{
    /* Four wait since 10, 20, 30 and 40; where one that was there since then comes back. */
    static const struct {
        uint64_t submitted;
        int order[5];
    } rows[] = {
        {5, {4, 0, 1, 2, 3}},
        {25, {0, 1, 4, 2, 3}},
        {45, {0, 1, 2, 3, 4}},
    };
    struct line *line = *state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        struct request *back = join(line, 4, LOW, rows[i].submitted);
        assert_int_equal(leave(line), 4);
        for (unsigned j = 0; j < 4; j++) {
            join(line, j, LOW, 10 * (j + 1));
        }
        queue_push(&line->queue, back, 1);
        assert_true(back->queued);
        leave_in_this_order(line, rows[i].order, 5);
    }
}

static void one_that_waited_before_comes_back_to_an_empty_class(void **state)
{
    struct line *line = *state;
    struct request *back = join(line, 0, LOW, 20);
    join(line, 1, HIGH, 30);
    queue_remove(&line->queue, back);
    queue_push(&line->queue, back, 1);
    join(line, 2, LOW, 40);
    leave_as(line, 1, 0, 2);
}

static void several_come_back_in_any_order(void **state)
{
    struct line *line = *state;
    for (unsigned i = 0; i < 5; i++) {
        join(line, i, LOW, 10 + i);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(leave(line), i);
    }
    queue_push(&line->queue, &line->requests[1], 1);
    queue_push(&line->queue, &line->requests[2], 1);
    queue_push(&line->queue, &line->requests[0], 1);
    leave_as(line, 0, 1, 2, 3, 4);
}

static void a_request_may_leave_from_anywhere(void **state)
{
    struct line *line = *state;
    for (unsigned out = 0; out < 4; out++) {
        int left[3];
        unsigned count = 0;
        for (unsigned i = 0; i < 4; i++) {
            join(line, i, LOW, 10 + i);
            if (i != out) {
                left[count++] = (int)i;
            }
        }
        queue_remove(&line->queue, &line->requests[out]);
        assert_false(line->requests[out].queued);
        leave_in_this_order(line, left, count);
    }
}

/* --- time ------------------------------------------------------------------------------------- */

static void is_up_first(const struct line *line, int number, uint64_t at)
{
    uint64_t deadline = 0;
    assert_ptr_equal(queue_oldest(&line->queue, &deadline), &line->requests[number]);
    assert_int_equal(deadline, at);
}

static void the_time_that_is_up_first_counts_in_all_classes(void **state)
{
    struct line *line = *state;
    join(line, 0, LOW, 10 * MS); /* until 310 */
    is_up_first(line, 0, 310 * MS);
    join(line, 1, HIGH, 120 * MS); /* until 320 */
    is_up_first(line, 0, 310 * MS);
    join(line, 2, LOW_TOO, 209 * MS); /* until 309: the youngest, but it may wait least */
    is_up_first(line, 2, 309 * MS);
    join(line, 3, LOW_TOO, 210 * MS); /* behind one of its class */
    is_up_first(line, 2, 309 * MS);
    queue_remove(&line->queue, &line->requests[2]);
    queue_remove(&line->queue, &line->requests[0]);
    is_up_first(line, 3, 310 * MS);
    queue_remove(&line->queue, &line->requests[3]);
    is_up_first(line, 1, 320 * MS);
    queue_remove(&line->queue, &line->requests[1]);
}

static void a_class_without_a_free_worker_has_its_time_too(void **state)
{
    struct line *line = *state;
    line->queue.classes[LOW].busy = 2;
    join(line, 0, LOW, 10 * MS);
    assert_null(queue_next(&line->queue));
    is_up_first(line, 0, 310 * MS);
    queue_remove(&line->queue, &line->requests[0]);
}

static void the_longest_time_does_not_overflow(void **state)
{
    static const struct class_options options[] = {
        {"default", EVERY, 0, 1000000ull * 3600000}, /* the most the option takes */
        {"short", EVERY, 0, 1},
    };
    const uint64_t year = 365ull * 86400 * 1000 * MS; /* up so long */
    struct line line = {0};
    (void)state;
    assert_int_equal(queue_open(&line.queue, options, CHECK_COUNT(options), 1), 0);
    join(&line, 0, 0, year);
    is_up_first(&line, 0, year + 1000000ull * 3600000 * MS);
    join(&line, 1, 1, 2 * year);
    is_up_first(&line, 1, 2 * year + MS);
    queue_free(&line.queue);
}

#define line_test(f) cmocka_unit_test_setup_teardown(f, line_open, line_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_share_is_a_number_or_a_percentage_of_all),
        cmocka_unit_test(classes_get_their_share_of_the_workers),
        cmocka_unit_test(a_class_is_found_by_its_whole_name),
        line_test(an_empty_queue_has_nobody),
        line_test(within_a_class_the_first_to_come_is_served_first),
        line_test(a_higher_priority_goes_before_age),
        line_test(among_equal_priorities_the_oldest_goes_first),
        line_test(a_class_with_all_its_workers_busy_is_passed_by),
        line_test(one_that_waited_before_goes_where_its_age_belongs),
        line_test(one_that_waited_before_comes_back_to_an_empty_class),
        line_test(several_come_back_in_any_order),
        line_test(a_request_may_leave_from_anywhere),
        line_test(the_time_that_is_up_first_counts_in_all_classes),
        line_test(a_class_without_a_free_worker_has_its_time_too),
        cmocka_unit_test(the_longest_time_does_not_overflow),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
