/*
 * A phase that goes to another process as JSON and is read there.
 */
#include "check.h"
#include "deferd/phase.h"

#include <string.h>

static struct phase *parsed(const char *text)
{
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    struct phase *phase = phase_parse(json);
    json_decref(json);
    return phase;
}

static const char live[] =
    "{\"id\":7,\"pool\":\"www\",\"state\":\"stopping\",\"class\":\"gold\",\"pid\":42,"
    "\"method\":\"GET\",\"uri\":\"/a?b\",\"started\":1700000000.123456,\"age_ms\":1500.25,"
    "\"outcome\":null,\"tasks\":["
    "{\"name\":\"one\",\"state\":\"done\",\"ms\":12.5,\"ratio\":null,\"text\":null,\"error\":null},"
    "{\"name\":\"\\u00fc\",\"state\":\"running\",\"ms\":3.0,\"ratio\":0.25,\"text\":\"a "
    "quarter\",\"error\":null},"
    "{\"name\":\"three\",\"state\":\"failed\",\"ms\":1.0,\"ratio\":null,\"text\":null,"
    "\"error\":\"no\"}],"
    "\"process\":99,\"upstream\":\"unix:/f\",\"status\":200,\"content_length\":5,"
    "\"response_ms\":20.5,\"held\":true,\"total\":4,\"done\":1,\"failed\":1,\"skipped\":0,"
    "\"stray\":2}";

static void what_was_written_is_read_as_it_was(void **state)
{
    (void)state;
    struct phase *phase = parsed(live);
    assert_non_null(phase);
    assert_int_equal(phase->id, 7);
    assert_true(phase->live && phase->stopping && phase->held);
    assert_string_equal(phase_state(phase), "stopping");
    assert_int_equal(phase->task_count, 3);
    assert_string_equal(phase->tasks[1].name, "\u00fc");
    assert_int_equal(phase_ended_tasks(phase), 2);
    json_t *json = phase_json(phase, 1);
    json_t *expected = json_loads(live, 0, NULL);
    assert_true(json_equal(json, expected));
    json_decref(json);
    json_decref(expected);
    free(phase);
}

static void time_passes_for_what_runs(void **state)
{
    (void)state;
    struct phase *phase = parsed(live);
    phase_grow(phase, 1000);
    assert_true(phase->age_ms == 2500.25);
    assert_true(phase->tasks[0].ms == 12.5);
    assert_true(phase->tasks[1].ms == 1003);
    assert_true(phase->tasks[2].ms == 1);
    phase_lose(phase);
    assert_string_equal(phase_state(phase), "lost");
    double end = phase_end(phase);
    phase_grow(phase, 1000);
    assert_true(phase_end(phase) == end);
    free(phase);
}

static void what_is_no_phase_is_refused(void **state)
{
    static const char *const wrong[] = {
        "{}",
        "[]",
        "[1]",
        "{\"id\":0,\"outcome\":null}",
        "{\"id\":-1,\"outcome\":null}",
        "{\"id\":\"7\",\"outcome\":null}",
        "{\"id\":7}",
        "{\"id\":7,\"outcome\":\"running\"}",
        "{\"id\":7,\"outcome\":7}",
        "{\"id\":7,\"outcome\":null,\"tasks\":[7]}",
        "{\"id\":7,\"outcome\":null,\"tasks\":[{\"state\":\"odd\"}]}",
        "{\"id\":7,\"outcome\":null,\"tasks\":[{\"state\":\"done\"},null]}",
    };
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(wrong); i++) {
        assert_null(parsed(wrong[i]));
    }
    assert_null(phase_parse(NULL));
}

static void more_tasks_than_a_phase_can_have_are_refused(void **state)
{
    (void)state;
    for (int count = DEFERRAL_TASKS_MAX; count <= DEFERRAL_TASKS_MAX + 1; count++) {
        json_t *json = json_pack("{s:i,s:n,s:[]}", "id", 7, "outcome", "tasks");
        for (int i = 0; i < count; i++) {
            json_array_append_new(json_object_get(json, "tasks"),
                                  json_pack("{s:s}", "state", "waiting"));
        }
        struct phase *phase = phase_parse(json);
        assert_int_equal(phase != NULL, count == DEFERRAL_TASKS_MAX);
        free(phase);
        json_decref(json);
    }
}

static void values_of_a_wrong_kind_are_left_out(void **state)
{
    (void)state;
    struct phase *phase =
        parsed("{\"id\":7,\"outcome\":null,\"pool\":1,\"uri\":[],\"pid\":\"x\","
               "\"started\":1e300,\"age_ms\":-5,\"done\":-3,\"held\":1,"
               "\"tasks\":[{\"state\":\"running\",\"ms\":\"x\",\"ratio\":1e99}]}");
    assert_non_null(phase);
    assert_string_equal(phase->pool, "");
    assert_string_equal(phase->uri, "");
    assert_int_equal(phase->pid, 0);
    assert_true(phase->started == 0 && phase->age_ms == 0);
    assert_int_equal(phase->done, 0);
    assert_false(phase->held);
    assert_true(phase->tasks[0].ratio < 0);
    assert_string_equal(phase->tasks[0].name, "");
    assert_null(phase->tasks[0].text);
    free(phase);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_as_it_was),
        cmocka_unit_test(time_passes_for_what_runs),
        cmocka_unit_test(what_is_no_phase_is_refused),
        cmocka_unit_test(more_tasks_than_a_phase_can_have_are_refused),
        cmocka_unit_test(values_of_a_wrong_kind_are_left_out),
    };
    return cmocka_run_group_tests_name("phase", tests, NULL, NULL);
}
