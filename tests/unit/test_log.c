/*
 * The error log: what is written, when, in which form, and that no peer can forge a line of it.
 */
#include "check.h"
#include "deferd/log.h"

#include <ctype.h>
#include <fcntl.h>
#include <jansson.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define STAMP "\\[[0-9]{2}-[A-Z][a-z]{2}-[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}\\] "

/* The length of "[21-Nov-2026 10:27:16.123] NOTICE: ". */
#define NOTICE_PREFIX 35

static int log_fd = -1; /* an unlinked file, which the log under test goes to */

static int open_file(void **state)
{
    FILE *file = tmpfile();
    (void)state;
    if (file == NULL) {
        return -1;
    }
    log_fd = dup(fileno(file));
    fclose(file);
    return log_fd < 0 ? -1 : 0;
}

static int close_file(void **state)
{
    (void)state;
    log_open(STDERR_FILENO, LOG_NOTICE);
    close(log_fd);
    return 0;
}

static size_t written(void)
{
    return (size_t)lseek(log_fd, 0, SEEK_END);
}

/* All that was written, terminated; the caller frees it. */
static char *written_text(void)
{
    size_t len = written();
    char *text = malloc(len + 1);
    assert_non_null(text);
    assert_int_equal(pread(log_fd, text, len, 0), len);
    text[len] = '\0';
    return text;
}

static int matches(const char *text, const char *pattern)
{
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int rc = regexec(&regex, text, 0, NULL, 0);
    regfree(&regex);
    return rc == 0;
}

static void is_written(const char *pattern)
{
    char *text = written_text();
    if (!matches(text, pattern)) {
        fail_msg("\"%s\" does not match %s", text, pattern);
    }
    free(text);
}

static void a_line_has_php_fpms_format(void **state)
{
    (void)state;
    log_open(log_fd, LOG_DEBUG);
    log_line(LOG_ALERT, "a %d", 1);
    log_line(LOG_ERROR, "e %s", "two");
    log_line(LOG_WARNING, "w");
    log_line(LOG_NOTICE, "n");
    log_line(LOG_DEBUG, "d");
    log_flush();
    is_written("^" STAMP "ALERT: a 1\n" STAMP "ERROR: e two\n" STAMP "WARNING: w\n" STAMP
               "NOTICE: n\n" STAMP "DEBUG: d\n$");
}

static void the_stamp_is_the_local_time(void **state)
{
    struct tm tm = {.tm_isdst = -1};
    struct timespec before; /* time() may lag behind this clock */
    struct timespec after;
    (void)state;
    log_open(log_fd, LOG_DEBUG);
    clock_gettime(CLOCK_REALTIME, &before);
    log_line(LOG_ERROR, "now");
    clock_gettime(CLOCK_REALTIME, &after);
    char *text = written_text();
    assert_non_null(strptime(text + 1, "%d-%b-%Y %H:%M:%S", &tm));
    time_t stamp = mktime(&tm);
    assert_in_range(stamp, before.tv_sec, after.tv_sec);
    free(text);
}

static void the_stamp_goes_on_with_the_clock(void **state)
{
    struct timespec now;
    char stamps[2][22] = {"", ""};
    (void)state;
    log_open(log_fd, LOG_DEBUG);
    for (int i = 0; i < 2; i++) {
        log_line(LOG_ERROR, "tick");
        char *text = written_text();
        const char *last = strlen(text) > 40 ? strchr(text, '\n') + 1 : text;
        memcpy(stamps[i], last + 1, 20);
        free(text);
        clock_gettime(CLOCK_REALTIME, &now);
        const struct timespec rest = {.tv_nsec = 999999999 - now.tv_nsec};
        nanosleep(&rest, NULL);
        usleep(1000);
    }
    assert_string_not_equal(stamps[0], stamps[1]);
}

static void lines_below_the_level_are_dropped(void **state)
{
    (void)state;
    for (int level = LOG_ALERT; level <= LOG_DEBUG; level++) {
        size_t lines = 0;
        assert_int_equal(ftruncate(log_fd, 0), 0);
        assert_int_equal(lseek(log_fd, 0, SEEK_SET), 0);
        log_open(log_fd, (enum log_level)level);
        for (int line = LOG_ALERT; line <= LOG_DEBUG; line++) {
            assert_int_equal(log_enabled((enum log_level)line) != 0, line <= level);
            log_line((enum log_level)line, "x");
        }
        log_flush();
        char *text = written_text();
        for (const char *at = text; *at != '\0'; at++) {
            lines += *at == '\n';
        }
        assert_int_equal(lines, level + 1);
        free(text);
    }
}

static void levels_have_names(void **state)
{
    static const char *const names[] = {"alert", "error", "warning", "notice", "debug"};
    static const char *const wrong[] = {"", "ALERT", "err", "errors", "warn", "info", "notice "};
    enum log_level level;
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(names); i++) {
        level = i == 0 ? LOG_DEBUG : LOG_ALERT;
        assert_int_equal(log_parse_level(names[i], &level), 0);
        assert_int_equal(level, i);
    }
    for (size_t i = 0; i < CHECK_COUNT(wrong); i++) {
        level = LOG_WARNING;
        assert_int_equal(log_parse_level(wrong[i], &level), -1);
        assert_int_equal(level, LOG_WARNING);
    }
}

static void lines_wait_for_the_flush_up_to_warning(void **state)
{
    (void)state;
    log_open(log_fd, LOG_DEBUG);
    log_line(LOG_DEBUG, "d");
    log_line(LOG_NOTICE, "n");
    log_line(LOG_WARNING, "w");
    assert_int_equal(written(), 0);
    log_flush();
    is_written("DEBUG: d\n.*NOTICE: n\n.*WARNING: w\n$");
    size_t len = written();
    log_flush();
    assert_int_equal(written(), len);
}

static void an_error_is_written_at_once_behind_what_waited(void **state)
{
    (void)state;
    log_open(log_fd, LOG_DEBUG);
    log_line(LOG_NOTICE, "n");
    log_line(LOG_ERROR, "e");
    is_written("NOTICE: n\n.*ERROR: e\n$");
    log_line(LOG_ALERT, "a");
    is_written("ERROR: e\n.*ALERT: a\n$");
}

static void what_waits_goes_to_the_log_it_was_meant_for(void **state)
{
    int fds[2];
    char text[128];
    (void)state;
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    log_open(fds[1], LOG_NOTICE);
    log_line(LOG_NOTICE, "first");
    log_open(log_fd, LOG_NOTICE);
    log_line(LOG_NOTICE, "second");
    log_flush();
    ssize_t n = read(fds[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_true(matches(text, "^" STAMP "NOTICE: first\n$"));
    is_written("^" STAMP "NOTICE: second\n$");
    close(fds[0]);
    close(fds[1]);
}

static void any_number_of_lines_may_wait(void **state)
{
    char line[LOG_LINE_MAX];
    unsigned expected = 0;
    (void)state;
    memset(line, 'x', sizeof(line));
    line[2000] = '\0';
    log_open(log_fd, LOG_NOTICE);
    for (unsigned i = 0; i < 1000; i++) {
        log_line(LOG_NOTICE, "%u %s", i, line);
    }
    log_flush();
    char *text = written_text();
    for (const char *at = text; *at != '\0'; at = strchr(at, '\n') + 1) {
        assert_int_equal(strtoul(at + NOTICE_PREFIX, NULL, 10), expected);
        expected++;
    }
    assert_int_equal(expected, 1000);
    free(text);
}

static void a_long_line_is_cut(void **state)
{
    char line[2 * LOG_LINE_MAX];
    (void)state;
    log_open(log_fd, LOG_NOTICE);
    memset(line, 'x', sizeof(line));
    for (size_t len = LOG_LINE_MAX - 60; len < sizeof(line); len += len < LOG_LINE_MAX ? 1 : 999) {
        size_t whole = NOTICE_PREFIX + len + 1;
        assert_int_equal(ftruncate(log_fd, 0), 0);
        assert_int_equal(lseek(log_fd, 0, SEEK_SET), 0);
        line[len] = '\0';
        log_line(LOG_NOTICE, "%s", line);
        line[len] = 'x';
        log_line(LOG_NOTICE, "behind");
        log_flush();
        char *text = written_text();
        const char *lf = strchr(text, '\n');
        assert_int_equal(lf - text + 1, whole < LOG_LINE_MAX ? whole : LOG_LINE_MAX);
        assert_int_equal(lf[-1], 'x');
        assert_true(matches(lf + 1, "^" STAMP "NOTICE: behind\n$"));
        free(text);
    }
}

/* Reads all there is, terminated; the caller frees it. */
static char *drain_pipe(int fd)
{
    size_t cap = 1 << 20;
    size_t len = 0;
    ssize_t n;
    char *text = malloc(cap);
    assert_non_null(text);
    while (len < cap - 1 && (n = read(fd, text + len, cap - 1 - len)) > 0) {
        len += (size_t)n;
    }
    text[len] = '\0';
    return text;
}

/* A pipe that blocks whoever writes to it, as standard error is; only the test's end does not. */
static void open_pipe(int fds[2])
{
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
}

static unsigned count_lines(const char *text, const char *what)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++) {
        count++;
    }
    return count;
}

static void a_full_pipe_loses_lines_says_so_and_does_not_block(void **state)
{
    enum { LINES = 100000 };
    int fds[2];
    (void)state;
    open_pipe(fds);
    log_open(fds[1], LOG_NOTICE);
    alarm(20); /* a write that blocks would do so for ever */
    for (int i = 0; i < LINES; i++) {
        log_line(LOG_NOTICE, "line %d", i);
    }
    assert_true(log_flush() > 0);
    char *first = drain_pipe(fds[0]);
    log_flush();
    char *second = drain_pipe(fds[0]);
    alarm(0);
    unsigned got = count_lines(first, ": line ") + count_lines(second, ": line ");
    assert_in_range(got, 100, LINES - 1);
    const char *said = strstr(second, "WARNING: ");
    assert_non_null(said);
    assert_int_equal(strtoul(said + 9, NULL, 10), LINES - got);
    assert_true(matches(said, "line\\(s\\) of this log were dropped, .*\n$"));
    assert_int_equal(log_flush(), 0);
    log_line(LOG_ERROR, "after");
    char *third = drain_pipe(fds[0]);
    assert_true(matches(third, "^" STAMP "ERROR: after\n$"));
    log_open(log_fd, LOG_NOTICE);
    free(first);
    free(second);
    free(third);
    close(fds[0]);
    close(fds[1]);
}

static void a_log_without_a_reader_is_dropped_and_counted(void **state)
{
    int fds[2];
    (void)state;
    assert_int_equal(pipe(fds), 0);
    signal(SIGPIPE, SIG_IGN);
    close(fds[0]);
    log_open(fds[1], LOG_NOTICE);
    log_line(LOG_ERROR, "nobody reads this");
    log_line(LOG_ERROR, "nor this");
    log_open(log_fd, LOG_NOTICE);
    log_line(LOG_ERROR, "but this");
    is_written("^" STAMP "ERROR: but this\n" STAMP "WARNING: 2 line\\(s\\) of this log were "
               "dropped, for it could not be written\n$");
    close(fds[1]);
}

static void a_text_with_line_feeds_is_one_line(void **state)
{
    (void)state;
    log_open(log_fd, LOG_NOTICE);
    log_line(LOG_ERROR, "%s", "one\ntwo\nthree\n");
    is_written("^" STAMP "ERROR: one two three \n$");
}

static void json_is_an_object_a_line(void **state)
{
    (void)state;
    log_open(log_fd, LOG_NOTICE);
    log_set_format(LOG_JSON);
    log_line(LOG_WARNING, "request 42: %s", "a \"b\" \\ c\n\x01\xc3\xa4\x7f");
    log_line(LOG_NOTICE, "request=43 method=GET");
    log_line(LOG_ALERT, "request no 44: x");
    log_set_format(LOG_TEXT);
    char *text = written_text();
    json_t *objects[3];
    char *save = NULL;
    char *line = strtok_r(text, "\n", &save);
    for (size_t i = 0; i < 3; i++, line = strtok_r(NULL, "\n", &save)) {
        assert_non_null(line);
        objects[i] = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(objects[i]);
        assert_int_equal(json_integer_value(json_object_get(objects[i], "pid")), getpid());
        assert_true(matches(json_string_value(json_object_get(objects[i], "time")),
                            "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}"
                            "\\+05:30$"));
    }
    assert_null(line);
    assert_int_equal(json_integer_value(json_object_get(objects[0], "request")), 42);
    assert_string_equal(json_string_value(json_object_get(objects[0], "message")),
                        "a \"b\" \\ c\n\x01\\xC3\\xA4\x7f");
    assert_string_equal(json_string_value(json_object_get(objects[0], "level")), "warning");
    assert_int_equal(json_integer_value(json_object_get(objects[1], "request")), 43);
    assert_string_equal(json_string_value(json_object_get(objects[1], "message")),
                        "request=43 method=GET");
    assert_null(json_object_get(objects[2], "request"));
    assert_string_equal(json_string_value(json_object_get(objects[2], "level")), "alert");
    for (size_t i = 0; i < 3; i++) {
        json_decref(objects[i]);
    }
    free(text);
}

static void a_long_line_of_json_is_cut_and_stays_json(void **state)
{
    char message[LOG_LINE_MAX];
    (void)state;
    log_open(log_fd, LOG_NOTICE);
    log_set_format(LOG_JSON);
    for (size_t len = 600; len < sizeof(message); len += 7) {
        memset(message, len % 2 ? '\x01' : 'x', len);
        message[len] = '\0';
        assert_int_equal(ftruncate(log_fd, 0), 0);
        assert_int_equal(lseek(log_fd, 0, SEEK_SET), 0);
        log_line(LOG_ERROR, "%s", message);
        char *text = written_text();
        assert_in_range(strlen(text), 600, LOG_LINE_MAX);
        json_t *object = json_loads(text, 0, NULL);
        assert_non_null(object);
        assert_int_equal(json_string_value(json_object_get(object, "message"))[0], message[0]);
        json_decref(object);
        free(text);
    }
    log_set_format(LOG_TEXT);
}

/* Reads an escaped text back. Returns its length. */
static size_t unescape(const char *text, uint8_t *out)
{
    size_t len = 0;
    while (*text != '\0') {
        if (*text == '\\') {
            const char digits[] = {text[2], text[3], '\0'};
            assert_int_equal(text[1], 'x');
            assert_true(isxdigit((unsigned char)digits[0]) && !islower((unsigned char)digits[0]));
            assert_true(isxdigit((unsigned char)digits[1]) && !islower((unsigned char)digits[1]));
            out[len++] = (uint8_t)strtoul(digits, NULL, 16);
            text += 4;
        } else {
            assert_in_range((unsigned char)*text, 0x20, 0x7e);
            assert_int_not_equal(*text, '"');
            out[len++] = (uint8_t)*text++;
        }
    }
    return len;
}

static void every_hostile_byte_is_escaped(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        const uint8_t data = (uint8_t)byte;
        int plain = byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
        char expected[8];
        char out[8];
        snprintf(expected, sizeof(expected), plain ? "%c" : "\\x%02X", byte);
        assert_ptr_equal(log_escape(out, sizeof(out), &data, 1), out);
        assert_string_equal(out, expected);
        snprintf(expected, sizeof(expected), plain && byte != ' ' ? "%c" : "\\x%02X", byte);
        assert_ptr_equal(log_escape_word(out, sizeof(out), &data, 1), out);
        assert_string_equal(out, expected);
    }
}

static void an_escaped_word_is_one_field(void **state)
{
    static const char forged[] = "GET status=200\toutcome=\"x\"";
    char out[128];
    (void)state;
    log_escape_word(out, sizeof(out), forged, sizeof(forged) - 1);
    assert_string_equal(out, "GET\\x20status=200\\x09outcome=\\x22x\\x22");
    assert_string_equal(log_escape_word(out, 7, "ab cd", 5), "ab\\x20");
    assert_string_equal(log_escape_word(out, 6, "ab cd", 5), "ab");
}

static void an_escaped_text_holds_all_bytes(void **state)
{
    uint64_t seed = 11;
    (void)state;
    for (int round = 0; round < 2000; round++) {
        uint8_t data[64];
        uint8_t back[64];
        char out[4 * 64 + 1];
        size_t len = check_below(&seed, sizeof(data) + 1);
        for (size_t i = 0; i < len; i++) {
            data[i] = (uint8_t)check_random(&seed);
        }
        uint8_t *copy = check_copy(data, len);
        log_escape(out, sizeof(out), copy, len);
        free(copy);
        assert_int_equal(unescape(out, back), len);
        assert_memory_equal(back, data, len);
    }
}

static void an_escaped_text_is_cut_between_bytes(void **state)
{
    static const uint8_t data[] = "a\n\x1e\xff\"b\\c\0d";
    static const char whole[] = "a\\x0A\\x1E\\xFF\\x22b\\x5Cc\\x00d\\x00";
    (void)state;
    for (size_t size = 1; size < sizeof(whole) + 8; size++) {
        char *out = malloc(size);
        uint8_t back[sizeof(data)];
        assert_non_null(out);
        log_escape(out, size, data, sizeof(data));
        assert_non_null(memchr(out, '\0', size));
        size_t len = strlen(out);
        assert_memory_equal(out, whole, len);
        assert_memory_equal(back, data, unescape(out, back));
        /* No more would have fitted. */
        size_t next = whole[len] == '\0' ? 0 : whole[len] == '\\' ? 4 : 1;
        assert_true(next == 0 || len + next >= size);
        free(out);
    }
    char out[1] = {'x'};
    assert_string_equal(log_escape(out, sizeof(out), NULL, 0), "");
}

#define LOG_TEST(test) cmocka_unit_test_setup_teardown(test, open_file, close_file)

int main(void)
{
    setenv("TZ", "UNIT-5:30", 1); /* no time zone to mistake for UTC */
    const struct CMUnitTest tests[] = {
        LOG_TEST(a_line_has_php_fpms_format),
        LOG_TEST(the_stamp_is_the_local_time),
        LOG_TEST(the_stamp_goes_on_with_the_clock),
        LOG_TEST(lines_below_the_level_are_dropped),
        LOG_TEST(lines_wait_for_the_flush_up_to_warning),
        LOG_TEST(an_error_is_written_at_once_behind_what_waited),
        LOG_TEST(what_waits_goes_to_the_log_it_was_meant_for),
        LOG_TEST(any_number_of_lines_may_wait),
        LOG_TEST(a_long_line_is_cut),
        LOG_TEST(a_full_pipe_loses_lines_says_so_and_does_not_block),
        LOG_TEST(a_log_without_a_reader_is_dropped_and_counted),
        LOG_TEST(a_text_with_line_feeds_is_one_line),
        LOG_TEST(json_is_an_object_a_line),
        LOG_TEST(a_long_line_of_json_is_cut_and_stays_json),
        cmocka_unit_test(levels_have_names),
        cmocka_unit_test(every_hostile_byte_is_escaped),
        cmocka_unit_test(an_escaped_word_is_one_field),
        cmocka_unit_test(an_escaped_text_holds_all_bytes),
        cmocka_unit_test(an_escaped_text_is_cut_between_bytes),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
