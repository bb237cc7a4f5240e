/*
 * A deferred phase as its reports tell it: the counts, the outcome, and the tasks left over.
 */
#include "check.h"
#include "deferd/deferral.h"

#include <stdio.h>

#define BEGIN(tasks) "{\"event\":\"begin\",\"pid\":42,\"tasks\":[" tasks "]}\n"
#define ADD(tasks)   "{\"event\":\"add\",\"tasks\":[" tasks "]}\n"
#define START(task)  "{\"event\":\"start\",\"task\":" #task "}\n"
#define DONE(task)   "{\"event\":\"done\",\"task\":" #task ",\"ms\":1.5}\n"
#define FAIL(task)   "{\"event\":\"fail\",\"task\":" #task ",\"ms\":1,\"error\":\"E: no\"}\n"
#define SKIP(task)   "{\"event\":\"skip\",\"task\":" #task ",\"why\":\"stopped\"}\n"
#define END          "{\"event\":\"end\"}\n"

/* A phase under test and what it called back with. */
struct phase {
    struct deferral deferral;
    size_t strays;
    size_t stray_len;
    char stray[300]; /* the last one */
    size_t failures;
    char failed[2 * DEFERRAL_NAME_MAX]; /* the last one's task */
    char error[300];
};

static void on_stray(void *arg, const char *line, size_t len)
{
    struct phase *phase = arg;
    assert_true(len <= 256);
    phase->strays++;
    phase->stray_len = len;
    memcpy(phase->stray, line, len);
    phase->stray[len] = '\0';
}

static void on_failed(void *arg, const char *task, const char *error)
{
    struct phase *phase = arg;
    phase->failures++;
    snprintf(phase->failed, sizeof(phase->failed), "%s", task);
    snprintf(phase->error, sizeof(phase->error), "%s", error);
}

/* Feeds bytes from a copy that is gone afterwards. */
static void feed_bytes(struct phase *phase, const char *data, size_t len)
{
    const struct deferral_events events = {on_stray, on_failed, phase, 0};
    uint8_t *copy = check_copy(data, len);
    deferral_feed(&phase->deferral, copy, len, &events);
    free(copy);
}

static void end_output(struct phase *phase)
{
    const struct deferral_events events = {on_stray, on_failed, phase, 0};
    deferral_end(&phase->deferral, &events);
}

static void feed(struct phase *phase, const char *text)
{
    feed_bytes(phase, text, strlen(text));
}

static void is_counted(const struct phase *phase, size_t total, size_t done, size_t failed,
                       size_t skipped, size_t stray)
{
    assert_int_equal(phase->deferral.total, total);
    assert_int_equal(phase->deferral.done, done);
    assert_int_equal(phase->deferral.failed, failed);
    assert_int_equal(phase->deferral.skipped, skipped);
    assert_int_equal(phase->deferral.stray, stray);
    assert_int_equal(phase->strays, stray);
}

/* The outcome with the application's END_REQUEST, and when its connection just ends. */
static void ends_as(struct phase *phase, enum outcome with, enum outcome without)
{
    assert_int_equal(deferral_outcome(&phase->deferral, 1), with);
    assert_int_equal(deferral_outcome(&phase->deferral, 0), without);
}

static void leaves(struct phase *phase, size_t count, const char *names)
{
    char out[1024];
    assert_int_equal(deferral_unfinished(&phase->deferral, out, sizeof(out)), count);
    assert_string_equal(out, names);
}

static void finish(struct phase *phase)
{
    deferral_free(&phase->deferral);
}

static void all_done_and_end_is_completed(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"mail\",\"stats\""));
    assert_int_equal(phase.deferral.pid, 42);
    leaves(&phase, 2, "mail, stats");
    feed(&phase, START(0));
    leaves(&phase, 2, "mail, stats");
    feed(&phase, "{\"event\":\"progress\",\"task\":0,\"ratio\":0.5,\"text\":\"half\"}\n");
    leaves(&phase, 2, "mail, stats");
    feed(&phase, DONE(0));
    leaves(&phase, 1, "stats");
    feed(&phase, START(1) DONE(1));
    is_counted(&phase, 2, 2, 0, 0, 0);
    ends_as(&phase, OUTCOME_LOST, OUTCOME_LOST);
    feed(&phase, END);
    ends_as(&phase, OUTCOME_COMPLETED, OUTCOME_COMPLETED);
    leaves(&phase, 0, "");
    finish(&phase);
}

static void one_failure_makes_the_phase_failed(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"a\",\"b\",\"c\"") START(0) DONE(0) START(1) FAIL(1) START(2) DONE(2));
    assert_int_equal(phase.failures, 1);
    assert_string_equal(phase.failed, "b");
    assert_string_equal(phase.error, "E: no");
    ends_as(&phase, OUTCOME_LOST, OUTCOME_LOST);
    feed(&phase, END);
    is_counted(&phase, 3, 2, 1, 0, 0);
    ends_as(&phase, OUTCOME_FAILED, OUTCOME_FAILED);
    finish(&phase);
}

static void a_skipped_task_is_accounted_for(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"a\",\"b\"") START(0) DONE(0) SKIP(1));
    leaves(&phase, 0, "");
    feed(&phase, END);
    is_counted(&phase, 2, 1, 0, 1, 0);
    ends_as(&phase, OUTCOME_COMPLETED, OUTCOME_COMPLETED);
    finish(&phase);
}

static void without_end_the_phase_is_lost(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"a\",\"b\",\"c\"") START(0) DONE(0) START(1));
    ends_as(&phase, OUTCOME_LOST, OUTCOME_LOST);
    leaves(&phase, 2, "b, c");
    finish(&phase);
}

static void without_any_report_the_phase_is_unreported_or_lost(void **state)
{
    struct phase phase = {0};
    (void)state;
    ends_as(&phase, OUTCOME_UNREPORTED, OUTCOME_LOST);
    feed(&phase, "Notice: something\n\n{}\n");
    is_counted(&phase, 0, 0, 0, 0, 2);
    ends_as(&phase, OUTCOME_UNREPORTED, OUTCOME_LOST);
    feed(&phase, BEGIN(""));
    ends_as(&phase, OUTCOME_LOST, OUTCOME_LOST);
    feed(&phase, END);
    ends_as(&phase, OUTCOME_COMPLETED, OUTCOME_COMPLETED);
    finish(&phase);
}

static void a_report_behind_end_reopens_the_phase(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"a\"") DONE(0) END);
    ends_as(&phase, OUTCOME_COMPLETED, OUTCOME_COMPLETED);
    feed(&phase, ADD("\"b\""));
    ends_as(&phase, OUTCOME_LOST, OUTCOME_LOST);
    leaves(&phase, 1, "b");
    feed(&phase, DONE(1) END);
    ends_as(&phase, OUTCOME_COMPLETED, OUTCOME_COMPLETED);
    is_counted(&phase, 2, 2, 0, 0, 0);
    /* Stray output is no report, and so reopens nothing. */
    feed(&phase, "bye\n\n");
    ends_as(&phase, OUTCOME_COMPLETED, OUTCOME_COMPLETED);
    finish(&phase);
}

static void added_tasks_are_counted_behind_the_first(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"a\"") START(0) ADD("\"b\",\"c\"") ADD("") DONE(0) DONE(2));
    is_counted(&phase, 3, 2, 0, 0, 0);
    leaves(&phase, 1, "b");
    feed(&phase, FAIL(1));
    assert_string_equal(phase.failed, "b");
    finish(&phase);
}

static void a_task_ends_only_once(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"a\",\"b\",\"c\""));
    feed(&phase, DONE(0) DONE(0) SKIP(0) START(0) DONE(0));
    is_counted(&phase, 3, 1, 0, 0, 0);
    feed(&phase, FAIL(1) FAIL(1) DONE(1) SKIP(1));
    is_counted(&phase, 3, 1, 1, 0, 0);
    feed(&phase, SKIP(2) SKIP(2) DONE(2));
    is_counted(&phase, 3, 1, 1, 1, 0);
    leaves(&phase, 0, "");
    finish(&phase);
}

static void a_task_never_announced_does_not_count(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, DONE(0) SKIP(1) START(2));
    is_counted(&phase, 0, 0, 0, 0, 0);
    leaves(&phase, 0, "");
    feed(&phase, BEGIN("\"a\"") DONE(1) SKIP(7) DONE(9223372036854775807));
    is_counted(&phase, 1, 0, 0, 0, 0);
    leaves(&phase, 1, "a");
    feed(&phase, FAIL(1));
    is_counted(&phase, 1, 0, 0, 0, 0);
    assert_int_equal(phase.failures, 1);
    assert_string_equal(phase.failed, "unnamed");
    finish(&phase);
}

static void any_fail_makes_the_outcome_failed(void **state)
{
    static const char *const reports[] = {
        BEGIN("\"a\"") DONE(0) FAIL(1) END, /* of a task never announced */
        BEGIN("\"a\"") DONE(0) FAIL(0) END, /* of a task that was done: it failed late */
        BEGIN("") FAIL(0) END,
    };
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(reports); i++) {
        struct phase phase = {0};
        feed(&phase, reports[i]);
        assert_int_equal(phase.failures, 1);
        ends_as(&phase, OUTCOME_FAILED, OUTCOME_FAILED);
        finish(&phase);
    }
}

static void stray_lines_are_counted_and_shown_in_part(void **state)
{
    struct phase phase = {0};
    char line[8192 + 2];
    (void)state;
    feed(&phase, "hello\n");
    assert_string_equal(phase.stray, "hello");
    feed(&phase, "\n\n");
    is_counted(&phase, 0, 0, 0, 0, 1);
    feed(&phase, "\r\n");
    is_counted(&phase, 0, 0, 0, 0, 2);
    feed(&phase, "{\"event\":\"later\"}\n");
    is_counted(&phase, 0, 0, 0, 0, 3);
    assert_string_equal(phase.stray, "{\"event\":\"later\"}");
    feed_bytes(&phase, "a\0b\n", 4);
    assert_int_equal(phase.stray_len, 3);
    memset(line, 's', sizeof(line));
    for (size_t len = 255; len < 258; len++) {
        line[len] = '\n';
        feed_bytes(&phase, line, len + 1);
        line[len] = 's';
        assert_int_equal(phase.stray_len, len < 256 ? len : 256);
        assert_memory_equal(phase.stray, line, phase.stray_len);
    }
    is_counted(&phase, 0, 0, 0, 0, 7);
    ends_as(&phase, OUTCOME_UNREPORTED, OUTCOME_LOST);
    finish(&phase);
}

/* A report of this many bytes, its LF included. */
static void put_long_report(char *line, size_t size)
{
    memset(line, 'x', size);
    memcpy(line, BEGIN("\""), sizeof(BEGIN("\"")) - 4);
    memcpy(line + size - 4, "\"]}\n", 4);
}

static void a_report_over_the_limit_is_stray(void **state)
{
    struct phase phase = {0};
    char line[8193];
    (void)state;
    put_long_report(line, 8192);
    feed_bytes(&phase, line, 8192);
    is_counted(&phase, 1, 0, 0, 0, 0);
    put_long_report(line, 8193);
    feed_bytes(&phase, line, 8193);
    is_counted(&phase, 1, 0, 0, 0, 1);
    assert_int_equal(phase.stray_len, 256);
    feed(&phase, END);
    ends_as(&phase, OUTCOME_COMPLETED, OUTCOME_COMPLETED);
    finish(&phase);
}

static void a_long_stray_line_shows_as_much_however_it_is_cut(void **state)
{
    char line[9000];
    (void)state;
    for (size_t i = 0; i < sizeof(line); i++) {
        line[i] = (char)('a' + i % 26);
    }
    line[sizeof(line) - 1] = '\n';
    for (size_t at = 0; at < 600; at++) {
        struct phase phase = {0};
        feed_bytes(&phase, line, at);
        feed_bytes(&phase, line + at, sizeof(line) - at);
        is_counted(&phase, 0, 0, 0, 0, 1);
        assert_int_equal(phase.stray_len, 256);
        assert_memory_equal(phase.stray, line, 256);
        finish(&phase);
    }
}

static const char whole_phase[] = BEGIN("\"a\",\"b\",\"c\",\"d\"") START(0) "warning\n" DONE(0)
    START(1) FAIL(1) ADD("\"e\"") SKIP(2) "\n{\"event\":\"x\"}\n" DONE(4) END;

static void feed_cut(const void *arg, struct check_cuts cuts)
{
    struct phase phase = {0};
    const size_t len = sizeof(whole_phase) - 1;
    size_t done = 0;
    (void)arg;
    while (done < len) {
        size_t n = check_piece(&cuts, done, len);
        feed_bytes(&phase, whole_phase + done, n);
        done += n;
    }
    is_counted(&phase, 5, 2, 1, 1, 2);
    ends_as(&phase, OUTCOME_FAILED, OUTCOME_FAILED);
    leaves(&phase, 1, "d");
    check_that(phase.deferral.lines.held == NULL, &cuts);
    finish(&phase);
}

static void reports_may_come_in_any_pieces(void **state)
{
    (void)state;
    check_all_cuts(feed_cut, NULL, sizeof(whole_phase) - 1);
    for (uint64_t seed = 0; seed < 500; seed++) {
        feed_cut(NULL, (struct check_cuts){.way = CHECK_RANDOM, .seed = seed});
    }
}

static void a_report_without_its_lf_waits_for_it_or_the_end(void **state)
{
    (void)state;
    for (int with_lf = 0; with_lf < 2; with_lf++) {
        struct phase phase = {0};
        feed(&phase, BEGIN("") "{\"event\":\"end\"}");
        ends_as(&phase, OUTCOME_LOST, OUTCOME_LOST);
        if (with_lf) {
            feed(&phase, "\n");
        } else {
            end_output(&phase);
        }
        ends_as(&phase, OUTCOME_COMPLETED, OUTCOME_COMPLETED);
        end_output(&phase); /* nothing is left */
        is_counted(&phase, 0, 0, 0, 0, 0);
        finish(&phase);
    }
}

static void output_cut_off_at_its_end_is_stray(void **state)
{
    char line[9000];
    struct phase phase = {0};
    (void)state;
    end_output(&phase);
    is_counted(&phase, 0, 0, 0, 0, 0);
    feed(&phase, BEGIN("\"a\"") "{\"event\":\"do");
    is_counted(&phase, 1, 0, 0, 0, 0);
    end_output(&phase);
    is_counted(&phase, 1, 0, 0, 0, 1);
    assert_string_equal(phase.stray, "{\"event\":\"do");
    memset(line, 's', sizeof(line)); /* too long, and told already */
    feed_bytes(&phase, line, sizeof(line));
    end_output(&phase);
    is_counted(&phase, 1, 0, 0, 0, 2);
    ends_as(&phase, OUTCOME_LOST, OUTCOME_LOST);
    finish(&phase);
}

static void announce(struct phase *phase, size_t count)
{
    char line[64];
    for (size_t i = 0; i < count; i++) {
        snprintf(line, sizeof(line), ADD("\"task %zu\""), i);
        feed(phase, line);
    }
}

static void report_task(struct phase *phase, const char *event, size_t task)
{
    char line[64];
    snprintf(line, sizeof(line), "{\"event\":\"%s\",\"task\":%zu}\n", event, task);
    feed(phase, line);
}

static void more_tasks_than_have_names_are_counted(void **state)
{
    struct phase phase = {0};
    (void)state;
    announce(&phase, DEFERRAL_TASKS_MAX + 88);
    assert_int_equal(phase.deferral.named, DEFERRAL_TASKS_MAX);
    is_counted(&phase, DEFERRAL_TASKS_MAX + 88, 0, 0, 0, 0);
    for (size_t i = 0; i < DEFERRAL_TASKS_MAX + 88; i++) {
        report_task(&phase, "done", i);
    }
    is_counted(&phase, DEFERRAL_TASKS_MAX + 88, DEFERRAL_TASKS_MAX + 88, 0, 0, 0);
    leaves(&phase, 0, "");
    report_task(&phase, "done", DEFERRAL_TASKS_MAX + 88);
    is_counted(&phase, DEFERRAL_TASKS_MAX + 88, DEFERRAL_TASKS_MAX + 88, 0, 0, 0);
    feed(&phase, END);
    ends_as(&phase, OUTCOME_COMPLETED, OUTCOME_COMPLETED);
    finish(&phase);
}

static void every_named_task_keeps_its_name(void **state)
{
    struct phase phase = {0};
    (void)state;
    announce(&phase, DEFERRAL_TASKS_MAX + 1);
    for (size_t i = 0; i < DEFERRAL_TASKS_MAX; i++) {
        char name[32];
        snprintf(name, sizeof(name), "task %zu", i);
        assert_string_equal(phase.deferral.tasks[i]->name, name);
        report_task(&phase, "fail", i);
        assert_string_equal(phase.failed, name);
    }
    leaves(&phase, 1, "");
    report_task(&phase, "done", DEFERRAL_TASKS_MAX + 1); /* never announced */
    leaves(&phase, 1, "");
    report_task(&phase, "fail", DEFERRAL_TASKS_MAX);
    assert_string_equal(phase.failed, "unnamed");
    is_counted(&phase, DEFERRAL_TASKS_MAX + 1, 0, DEFERRAL_TASKS_MAX + 1, 0, 0);
    leaves(&phase, 0, "");
    finish(&phase);
}

static void no_more_tasks_end_than_were_announced(void **state)
{
    struct phase phase = {0};
    const struct deferral *deferral = &phase.deferral;
    char names[64];
    (void)state;
    announce(&phase, DEFERRAL_TASKS_MAX + 1);
    for (size_t i = 0; i < DEFERRAL_TASKS_MAX + 8; i++) {
        report_task(&phase, "done", DEFERRAL_TASKS_MAX); /* one task, again and again */
    }
    report_task(&phase, "done", 0);
    assert_true(deferral->done + deferral->failed + deferral->skipped <= deferral->total);
    assert_in_range(deferral_unfinished(deferral, names, sizeof(names)), 0, deferral->total);
    finish(&phase);
}

static void long_names_are_cut(void **state)
{
    char line[600];
    (void)state;
    for (size_t len = DEFERRAL_NAME_MAX - 1; len < DEFERRAL_NAME_MAX + 2; len++) {
        struct phase phase = {0};
        int head = snprintf(line, sizeof(line), "{\"event\":\"begin\",\"tasks\":[\"");
        memset(line + head, 'n', len);
        memcpy(line + (size_t)head + len, "\"]}\n", 5);
        feed(&phase, line);
        line[(size_t)head + (len < DEFERRAL_NAME_MAX ? len : DEFERRAL_NAME_MAX)] = '\0';
        leaves(&phase, 1, line + head);
        finish(&phase);
    }
}

static void a_second_begin_adds_its_tasks_and_renews_the_pid(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"a\"") "{\"event\":\"begin\",\"pid\":43,\"tasks\":[\"b\"]}\n");
    assert_int_equal(phase.deferral.pid, 43);
    leaves(&phase, 2, "a, b");
    finish(&phase);
}

/* Of "first, second, third", what is shown in size bytes: whole names only, as many as there is
 * room for, and an ellipsis for the others. */
static void shows_whole_names(const struct deferral *deferral, const char *all, size_t size)
{
    static const size_t ends[] = {0, 5, 13};
    char *out = malloc(size);
    size_t shown = 0;
    assert_non_null(out);
    memset(out, 'x', size);
    assert_int_equal(deferral_unfinished(deferral, out, size), 3);
    assert_non_null(memchr(out, '\0', size));
    if (strcmp(out, all) != 0) {
        for (size_t i = 0; i < CHECK_COUNT(ends); i++) {
            shown = ends[i] + sizeof("...") < size ? ends[i] : shown;
        }
        assert_true(size < strlen(all) + 1 + sizeof("..."));
        assert_memory_equal(out, all, shown);
        assert_string_equal(out + shown, "...");
    }
    free(out);
}

static void unfinished_names_fit_or_end_in_an_ellipsis(void **state)
{
    static const char all[] = "first, second, third";
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"first\",\"over\",\"second\",\"third\"") DONE(1) START(2));
    for (size_t size = sizeof("...") + 1; size < 40; size++) {
        shows_whole_names(&phase.deferral, all, size);
    }
    leaves(&phase, 3, all);
    finish(&phase);
}

static void outcomes_have_the_protocols_names(void **state)
{
    (void)state;
    assert_string_equal(outcome_name(OUTCOME_COMPLETED), "completed");
    assert_string_equal(outcome_name(OUTCOME_FAILED), "failed");
    assert_string_equal(outcome_name(OUTCOME_LOST), "lost");
    assert_string_equal(outcome_name(OUTCOME_UNREPORTED), "unreported");
}

static void a_freed_phase_is_empty_again(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"a\"") "half a li");
    deferral_free(&phase.deferral);
    is_counted(&phase, 0, 0, 0, 0, 0);
    leaves(&phase, 0, "");
    ends_as(&phase, OUTCOME_UNREPORTED, OUTCOME_LOST);
    deferral_free(&phase.deferral);
}

#define PROGRESS(task, ratio, text)                                                                \
    "{\"event\":\"progress\",\"task\":" #task ",\"ratio\":" #ratio ",\"text\":\"" text "\"}\n"

static void a_task_keeps_its_times_and_its_progress(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"a\",\"b\""));
    const struct task *a = phase.deferral.tasks[0];
    const struct task *b = phase.deferral.tasks[1];
    assert_true(a->ratio < 0);
    feed(&phase, PROGRESS(0, 0.5, "early")); /* it has not started */
    assert_null(a->text);
    const struct deferral_events events = {on_stray, on_failed, &phase, 77};
    deferral_feed(&phase.deferral, CHECK_BYTES(START(0)), &events);
    assert_int_equal(a->started, 77);
    feed(&phase, PROGRESS(0, 0.25, "one") PROGRESS(0, 0.5, "three"));
    assert_true(a->ratio == 0.5F);
    assert_string_equal(a->text, "three");
    feed(&phase, DONE(0) PROGRESS(0, 1, "late"));
    assert_true(a->ms == 1.5);
    assert_string_equal(a->text, "three");
    feed(&phase, START(1) FAIL(1));
    assert_string_equal(b->error, "E: no");
    assert_null(b->text);
    deferral_free(&phase.deferral);
}

static void what_is_kept_of_texts_is_bounded(void **state)
{
    struct phase phase = {0};
    char line[2048];
    char text[1200];
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < 100; i++) {
        feed(&phase, i == 0 ? BEGIN("\"t\"") : ADD("\"t\""));
        snprintf(line, sizeof(line), "{\"event\":\"fail\",\"task\":%d,\"ms\":1,\"error\":\"%s\"}\n",
                 i, text);
        feed(&phase, line);
        assert_true(phase.deferral.detail <= DEFERRAL_DETAIL_MAX);
    }
    assert_int_equal(strlen(phase.deferral.tasks[0]->error), DEFERRAL_ERROR_MAX);
    assert_null(phase.deferral.tasks[99]->error);
    deferral_free(&phase.deferral);
}

static void progress_without_end_takes_no_more_room(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"t\"") START(0));
    for (int i = 0; i < 1000; i++) {
        feed(&phase, PROGRESS(0, 0.1, "a text of forty bytes, more or less, now"));
    }
    assert_int_equal(phase.deferral.detail, strlen(phase.deferral.tasks[0]->text) + 1);
    assert_int_equal(strlen(phase.deferral.tasks[0]->text), 40);
    feed(&phase, PROGRESS(0, 0.1, ""));
    assert_null(phase.deferral.tasks[0]->text);
    assert_int_equal(phase.deferral.detail, 0);
    deferral_free(&phase.deferral);
}

static void a_skip_that_says_stopped_is_remembered(void **state)
{
    struct phase phase = {0};
    (void)state;
    feed(&phase, BEGIN("\"a\",\"b\"") "{\"event\":\"skip\",\"task\":0,\"why\":\"cancelled\"}\n");
    assert_false(phase.deferral.any_stopped);
    feed(&phase, SKIP(1));
    assert_true(phase.deferral.any_stopped);
    deferral_free(&phase.deferral);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_done_and_end_is_completed),
        cmocka_unit_test(one_failure_makes_the_phase_failed),
        cmocka_unit_test(a_skipped_task_is_accounted_for),
        cmocka_unit_test(without_end_the_phase_is_lost),
        cmocka_unit_test(without_any_report_the_phase_is_unreported_or_lost),
        cmocka_unit_test(a_report_behind_end_reopens_the_phase),
        cmocka_unit_test(added_tasks_are_counted_behind_the_first),
        cmocka_unit_test(a_task_ends_only_once),
        cmocka_unit_test(a_task_never_announced_does_not_count),
        cmocka_unit_test(any_fail_makes_the_outcome_failed),
        cmocka_unit_test(stray_lines_are_counted_and_shown_in_part),
        cmocka_unit_test(a_report_over_the_limit_is_stray),
        cmocka_unit_test(a_long_stray_line_shows_as_much_however_it_is_cut),
        cmocka_unit_test(reports_may_come_in_any_pieces),
        cmocka_unit_test(a_report_without_its_lf_waits_for_it_or_the_end),
        cmocka_unit_test(output_cut_off_at_its_end_is_stray),
        cmocka_unit_test(more_tasks_than_have_names_are_counted),
        cmocka_unit_test(every_named_task_keeps_its_name),
        cmocka_unit_test(no_more_tasks_end_than_were_announced),
        cmocka_unit_test(long_names_are_cut),
        cmocka_unit_test(a_second_begin_adds_its_tasks_and_renews_the_pid),
        cmocka_unit_test(unfinished_names_fit_or_end_in_an_ellipsis),
        cmocka_unit_test(outcomes_have_the_protocols_names),
        cmocka_unit_test(a_task_keeps_its_times_and_its_progress),
        cmocka_unit_test(what_is_kept_of_texts_is_bounded),
        cmocka_unit_test(progress_without_end_takes_no_more_room),
        cmocka_unit_test(a_skip_that_says_stopped_is_remembered),
        cmocka_unit_test(a_freed_phase_is_empty_again),
    };
    return cmocka_run_group_tests_name("deferral", tests, NULL, NULL);
}
