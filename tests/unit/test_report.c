/*
 * Report lines: each event of the protocol, and what is no report.
 */
#include "check.h"
#include "deferd/report.h"

#include <stdio.h>

/* Reads a line from memory of exactly its size. */
static int parse(const char *line, size_t len, struct report *out)
{
    char *copy = (char *)check_copy(line, len);
    int rc = report_parse(copy, len, out);
    free(copy);
    return rc;
}

static struct report read_report(const char *line)
{
    struct report report;
    memset(&report, 0x55, sizeof(report));
    if (parse(line, strlen(line), &report) != 0) {
        fail_msg("refused: %s", line);
    }
    assert_non_null(report.root);
    return report;
}

static void refuses_bytes(const char *line, size_t len)
{
    struct report report;
    memset(&report, 0x55, sizeof(report));
    if (parse(line, len, &report) == 0) {
        fail_msg("taken as a report: %s", line);
    }
    report_free(&report); /* harmless */
}

static void refuses(const char *line)
{
    refuses_bytes(line, strlen(line));
}

static void takes(const char *line)
{
    struct report report = read_report(line);
    report_free(&report);
    assert_null(report.root);
}

static void begin_tells_the_pid_and_the_tasks(void **state)
{
    struct report report =
        read_report("{\"event\":\"begin\",\"pid\":4711,\"tasks\":[\"mail\",\"\",\"h\xc3\xb6\"]}");
    (void)state;
    assert_int_equal(report.event, REPORT_BEGIN);
    assert_int_equal(report.pid, 4711);
    assert_int_equal(json_array_size(report.tasks), 3);
    assert_string_equal(json_string_value(json_array_get(report.tasks, 0)), "mail");
    assert_string_equal(json_string_value(json_array_get(report.tasks, 1)), "");
    assert_string_equal(json_string_value(json_array_get(report.tasks, 2)), "h\xc3\xb6");
    report_free(&report);

    report = read_report("{\"event\":\"begin\",\"tasks\":[]}");
    assert_int_equal(report.pid, 0);
    assert_int_equal(json_array_size(report.tasks), 0);
    report_free(&report);
}

static void start_names_the_task(void **state)
{
    struct report report = read_report("{\"event\":\"start\",\"task\":3}");
    (void)state;
    assert_int_equal(report.event, REPORT_START);
    assert_int_equal(report.task, 3);
    assert_string_equal(report.text, "");
    report_free(&report);
}

static void progress_carries_a_ratio_and_a_text(void **state)
{
    static const struct {
        const char *ratio;
        double is;
    } rows[] = {
        {"0.5", 0.5}, {"0", 0}, {"1", 1},     {"1.0", 1},  {"1e-3", 0.001}, {"-1", 0},
        {"2", 1},     {"7", 1}, {"1e300", 1}, {"-0.1", 0}, {"\"0.5\"", 0},  {"null", 0},
    };
    char line[128];
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        snprintf(line, sizeof(line),
                 "{\"event\":\"progress\",\"task\":0,\"ratio\":%s,\"text\":\"half\"}",
                 rows[i].ratio);
        struct report report = read_report(line);
        assert_int_equal(report.event, REPORT_PROGRESS);
        assert_float_equal(report.ratio, rows[i].is, 1e-9);
        assert_string_equal(report.text, "half");
        report_free(&report);
    }
    struct report report = read_report("{\"event\":\"progress\",\"task\":0}");
    assert_float_equal(report.ratio, 0, 1e-9);
    assert_string_equal(report.text, "");
    report_free(&report);
}

static void done_carries_the_milliseconds(void **state)
{
    static const struct {
        const char *ms;
        double is;
    } rows[] = {
        {"0", 0},       {"12", 12},
        {"12.5", 12.5}, {"1e3", 1000},
        {"-5", 0},      {"\"12\"", 0},
        {"[12]", 0},    {"true", 0},
        {"1e15", 1e15}, {"9223372036854775807", 9223372036854775807.0},
    };
    char line[128];
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        snprintf(line, sizeof(line), "{\"event\":\"done\",\"task\":1,\"ms\":%s}", rows[i].ms);
        struct report report = read_report(line);
        assert_int_equal(report.event, REPORT_DONE);
        assert_int_equal(report.task, 1);
        assert_true(report.ms == rows[i].is);
        report_free(&report);
    }
    struct report report = read_report("{\"event\":\"done\",\"task\":1}");
    assert_true(report.ms == 0);
    report_free(&report);
}

static void fail_carries_the_error_and_skip_the_reason(void **state)
{
    struct report report = read_report("{\"event\":\"fail\",\"task\":0,\"ms\":2.5,"
                                       "\"error\":\"E: \\\"no\\\" in a.php:1\"}");
    (void)state;
    assert_int_equal(report.event, REPORT_FAIL);
    assert_true(report.ms == 2.5);
    assert_string_equal(report.text, "E: \"no\" in a.php:1");
    report_free(&report);

    report = read_report("{\"event\":\"skip\",\"task\":9,\"why\":\"stopped\"}");
    assert_int_equal(report.event, REPORT_SKIP);
    assert_int_equal(report.task, 9);
    assert_string_equal(report.text, "stopped");
    report_free(&report);

    /* Each event has a text of its own; another's is an unknown key. */
    report = read_report("{\"event\":\"fail\",\"task\":0,\"why\":\"x\",\"text\":\"y\"}");
    assert_string_equal(report.text, "");
    report_free(&report);
    report = read_report("{\"event\":\"skip\",\"task\":0,\"error\":\"x\",\"why\":7}");
    assert_string_equal(report.text, "");
    report_free(&report);
}

static void add_tells_tasks_and_end_nothing(void **state)
{
    struct report report = read_report("{\"event\":\"add\",\"tasks\":[\"later\"]}");
    (void)state;
    assert_int_equal(report.event, REPORT_ADD);
    assert_int_equal(json_array_size(report.tasks), 1);
    report_free(&report);

    report = read_report("{\"event\":\"end\"}");
    assert_int_equal(report.event, REPORT_END);
    report_free(&report);
}

static void keys_may_come_in_any_order_with_any_white_space(void **state)
{
    (void)state;
    takes("{ \"task\" : 0 , \"event\" : \"start\" }");
    takes("{\t\"event\":\"end\"\r}\r");
    takes("{\"event\":\"end\"} ");
    takes("{\"\\u0065vent\":\"\\u0065nd\"}");
}

static void unknown_keys_are_ignored(void **state)
{
    (void)state;
    takes("{\"event\":\"end\",\"x\":null}");
    takes("{\"event\":\"end\",\"x\":{\"event\":[1,2,{}]},\"\":false}");
    takes("{\"event\":\"end\",\"tasks\":7,\"task\":-1,\"pid\":\"x\",\"ms\":[]}");
    takes("{\"event\":\"start\",\"task\":0,\"tasks\":[1]}");
    takes("{\"event\":\"begin\",\"tasks\":[],\"task\":\"no\"}");
}

static void unknown_events_are_no_reports(void **state)
{
    (void)state;
    refuses("{\"event\":\"pause\"}");
    refuses("{\"event\":\"\"}");
    refuses("{\"event\":\"END\"}");
    refuses("{\"event\":\"end \"}");
    refuses("{\"event\":\"ends\"}");
    refuses("{\"event\":\"en\"}");
    refuses("{\"event\":\"begi\",\"tasks\":[]}");
}

static void an_event_needs_its_name(void **state)
{
    (void)state;
    refuses("{}");
    refuses("{\"task\":0}");
    refuses("{\"Event\":\"end\"}");
    refuses("{\"event\":7}");
    refuses("{\"event\":null}");
    refuses("{\"event\":[\"end\"]}");
    refuses("{\"event\":{\"event\":\"end\"}}");
}

static void an_event_of_a_task_needs_its_index(void **state)
{
    static const char *const events[] = {"start", "progress", "done", "fail", "skip"};
    static const char *const wrong[] = {
        "",
        ",\"task\":-1",
        ",\"task\":\"0\"",
        ",\"task\":0.0",
        ",\"task\":1e0",
        ",\"task\":null",
        ",\"task\":true",
        ",\"task\":[0]",
        ",\"task\":{}",
        ",\"Task\":0",
        ",\"tasks\":[0]",
        ",\"task\":9223372036854775808",
        ",\"task\":-9223372036854775808",
    };
    char line[128];
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(events); i++) {
        for (size_t j = 0; j < CHECK_COUNT(wrong); j++) {
            snprintf(line, sizeof(line), "{\"event\":\"%s\"%s}", events[i], wrong[j]);
            refuses(line);
        }
        snprintf(line, sizeof(line), "{\"event\":\"%s\",\"task\":9223372036854775807}", events[i]);
        struct report report = read_report(line);
        assert_true(report.task == 9223372036854775807);
        report_free(&report);
    }
}

static void begin_and_add_need_names(void **state)
{
    static const char *const events[] = {"begin", "add"};
    static const char *const wrong[] = {
        "",
        ",\"tasks\":null",
        ",\"tasks\":\"a\"",
        ",\"tasks\":{\"0\":\"a\"}",
        ",\"tasks\":1",
        ",\"tasks\":[1]",
        ",\"tasks\":[\"a\",null]",
        ",\"tasks\":[\"a\",[\"b\"]]",
        ",\"tasks\":[\"a\",{\"name\":\"b\"},\"c\"]",
        ",\"task\":[\"a\"]",
    };
    char line[128];
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(events); i++) {
        for (size_t j = 0; j < CHECK_COUNT(wrong); j++) {
            snprintf(line, sizeof(line), "{\"event\":\"%s\"%s}", events[i], wrong[j]);
            refuses(line);
        }
        snprintf(line, sizeof(line), "{\"event\":\"%s\",\"tasks\":[]}", events[i]);
        takes(line);
    }
}

static void a_pid_that_no_process_has_is_unknown(void **state)
{
    static const char *const pids[] = {"-1", "0", "4294967296", "9223372036854775807"};
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(pids); i++) {
        char line[128];
        snprintf(line, sizeof(line), "{\"event\":\"begin\",\"pid\":%s,\"tasks\":[]}", pids[i]);
        struct report report = read_report(line);
        assert_int_equal(report.pid, 0);
        report_free(&report);
    }
}

static void a_pid_that_is_no_number_is_unknown(void **state)
{
    static const char *const wrong[] = {"\"4711\"", "4711.0", "null", "[4711]", "true"};
    char line[128];
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(wrong); i++) {
        snprintf(line, sizeof(line), "{\"event\":\"begin\",\"pid\":%s,\"tasks\":[]}", wrong[i]);
        struct report report = read_report(line);
        assert_int_equal(report.pid, 0);
        report_free(&report);
    }
}

static void only_one_object_alone_is_a_report(void **state)
{
    (void)state;
    refuses("");
    refuses("{");
    refuses("}");
    refuses("[]");
    refuses("[\"event\",\"end\"]");
    refuses("\"end\"");
    refuses("end");
    refuses("null");
    refuses("Warning: Undefined variable $x in /srv/a.php on line 3");
    refuses("{\"event\":\"end\"}{\"event\":\"end\"}");
    refuses("{\"event\":\"end\"}x");
    refuses("x{\"event\":\"end\"}");
    refuses("[{\"event\":\"end\"}]");
    refuses("{\"event\":\"end\",}");
    refuses("{\"event\":\"end\" \"x\":1}");
    refuses("{'event':'end'}");
    refuses("{event:\"end\"}");
    refuses("\xef\xbb\xbf{\"event\":\"end\"}");
}

static void a_report_cut_off_anywhere_is_none(void **state)
{
    static const char line[] = "{\"event\":\"fail\",\"task\":0,\"ms\":2.5,\"error\":\"E\\u00e4\"}";
    (void)state;
    for (size_t len = 0; len < sizeof(line) - 1; len++) {
        refuses_bytes(line, len);
    }
    takes(line);
}

static void what_is_no_utf8_is_no_report(void **state)
{
    static const char *const wrong[] = {
        "\xff",
        "\x80",
        "\xc3",
        "\xc3(",
        "\xc0\x80",
        "\xe2\x82",
        "\xed\xa0\x80",
        "\xf5\x80\x80\x80",
        "\xf4\x90\x80\x80",
        "\xe0\x80\x80",
    };
    char line[128];
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(wrong); i++) {
        snprintf(line, sizeof(line), "{\"event\":\"add\",\"tasks\":[\"%s\"]}", wrong[i]);
        refuses(line);
        snprintf(line, sizeof(line), "{\"event\":\"end\",\"%s\":1}", wrong[i]);
        refuses(line);
    }
    takes("{\"event\":\"add\",\"tasks\":[\"\xf0\x9f\x90\x98\"]}");
}

static void a_nul_ends_no_string(void **state)
{
    (void)state;
    refuses_bytes("{\"event\":\"end\0\"}", sizeof("{\"event\":\"end\0\"}") - 1);
    refuses_bytes("{\"event\":\"end\"}\0", sizeof("{\"event\":\"end\"}\0") - 1);
    refuses_bytes("{\"event\":\"end\"\0}", sizeof("{\"event\":\"end\"\0}") - 1);
    refuses("{\"event\":\"end\\u0000\"}");
    refuses("{\"event\":\"add\",\"tasks\":[\"a\\u0000b\"]}");
}

static void numbers_without_end_are_no_report(void **state)
{
    char line[REPORT_LINE_MAX];
    (void)state;
    refuses("{\"event\":\"done\",\"task\":0,\"ms\":1e999}");
    refuses("{\"event\":\"done\",\"task\":0,\"ms\":-1e999}");
    refuses("{\"event\":\"done\",\"task\":0,\"ms\":NaN}");
    refuses("{\"event\":\"done\",\"task\":0,\"ms\":Infinity}");
    refuses("{\"event\":\"done\",\"task\":00}");
    memset(line, '9', sizeof(line));
    memcpy(line, "{\"event\":\"end\",\"x\":", 19);
    line[sizeof(line) - 1] = '}';
    refuses_bytes(line, sizeof(line));
}

static void nesting_is_bounded(void **state)
{
    char line[REPORT_LINE_MAX];
    size_t depth = (sizeof(line) - 20) / 2;
    (void)state;
    memcpy(line, "{\"event\":\"end\",\"x\":", 19);
    memset(line + 19, '[', depth);
    memset(line + 19 + depth, ']', depth);
    line[19 + 2 * depth] = '}';
    refuses_bytes(line, 20 + 2 * depth);
    memset(line + 19, '[', 100);
    memset(line + 119, ']', 100);
    line[219] = '}';
    struct report report;
    assert_int_equal(parse(line, 220, &report), 0);
    report_free(&report);
}

static void a_report_of_the_longest_line_is_read(void **state)
{
    char line[REPORT_LINE_MAX];
    struct report report;
    (void)state;
    int head = snprintf(line, sizeof(line), "{\"event\":\"fail\",\"task\":0,\"error\":\"");
    memset(line + head, 'e', sizeof(line) - (size_t)head);
    memcpy(line + sizeof(line) - 3, "\"}", 2);
    assert_int_equal(parse(line, sizeof(line) - 1, &report), 0);
    assert_int_equal(strlen(report.text), sizeof(line) - 3 - (size_t)head);
    report_free(&report);
}

/* The allocations that jansson may still make. */
static size_t allocations_left;

static void *scarce_malloc(size_t size)
{
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left--;
    return malloc(size);
}

static void without_memory_a_line_is_no_report(void **state)
{
    static const char line[] = "{\"event\":\"begin\",\"pid\":1,\"tasks\":[\"a\",\"b\",\"c\"]}";
    struct report report;
    size_t refused = 0;
    (void)state;
    json_set_alloc_funcs(scarce_malloc, free);
    for (size_t most = 0; most < 1000; most++) {
        allocations_left = most;
        if (report_parse(line, sizeof(line) - 1, &report) == 0) {
            report_free(&report);
            break;
        }
        refused++;
    }
    json_set_alloc_funcs(malloc, free);
    assert_in_range(refused, 5, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begin_tells_the_pid_and_the_tasks),
        cmocka_unit_test(start_names_the_task),
        cmocka_unit_test(progress_carries_a_ratio_and_a_text),
        cmocka_unit_test(done_carries_the_milliseconds),
        cmocka_unit_test(fail_carries_the_error_and_skip_the_reason),
        cmocka_unit_test(add_tells_tasks_and_end_nothing),
        cmocka_unit_test(keys_may_come_in_any_order_with_any_white_space),
        cmocka_unit_test(unknown_keys_are_ignored),
        cmocka_unit_test(unknown_events_are_no_reports),
        cmocka_unit_test(an_event_needs_its_name),
        cmocka_unit_test(an_event_of_a_task_needs_its_index),
        cmocka_unit_test(begin_and_add_need_names),
        cmocka_unit_test(a_pid_that_is_no_number_is_unknown),
        cmocka_unit_test(a_pid_that_no_process_has_is_unknown),
        cmocka_unit_test(only_one_object_alone_is_a_report),
        cmocka_unit_test(a_report_cut_off_anywhere_is_none),
        cmocka_unit_test(what_is_no_utf8_is_no_report),
        cmocka_unit_test(a_nul_ends_no_string),
        cmocka_unit_test(numbers_without_end_are_no_report),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(a_report_of_the_longest_line_is_read),
        cmocka_unit_test(without_memory_a_line_is_no_report),
    };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
