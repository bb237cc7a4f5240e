/*
 * Cutting a stream into lines: the same lines however it arrives, and a line that is too long costs
 * no more than its limit.
 */
#include "check.h"
#include "deferd/lines.h"

#define LIMIT 16

struct sent {
    const char *data;
    size_t len;
    size_t max;
};

/* Where the check of a stream stands: the next line to come begins at from. */
struct cursor {
    const struct sent *sent;
    size_t from;
};

/* The length of the line at the cursor, as far as it is within the first have bytes, and whether
 * its LF is. */
static size_t line_at(const struct cursor *cursor, size_t have, int *whole)
{
    const char *line = cursor->sent->data + cursor->from;
    const char *lf = memchr(line, '\n', have - cursor->from);
    *whole = lf != NULL;
    return lf != NULL ? (size_t)(lf - line) : have - cursor->from;
}

/* Goes over the rest of a long line that was already told. */
static void skip_told(struct cursor *cursor, int *told, size_t have)
{
    int whole;
    if (*told) {
        size_t len = line_at(cursor, have, &whole);
        cursor->from += whole ? len + 1 : len;
        *told = !whole;
    }
}

/* Checks an event against the line at the cursor, of which have bytes of the stream are known. */
static void is_next(struct cursor *cursor, int *told, size_t have, const struct lines_event *ev,
                    const struct check_cuts *cuts)
{
    int whole;
    size_t max = cursor->sent->max;
    skip_told(cursor, told, have);
    size_t len = line_at(cursor, have, &whole);
    const char *line = cursor->sent->data + cursor->from;
    if (ev->kind == LINES_LINE) {
        check_that(whole && len + 1 <= max && ev->len == len, cuts);
        check_that(memcmp(ev->data, line, len) == 0, cuts);
    } else {
        check_that(len + 1 > max && ev->len > 0 && ev->len <= len, cuts);
        check_that(memcmp(ev->data, line, ev->len) == 0, cuts);
        *told = !whole;
    }
    cursor->from += whole ? len + 1 : len;
}

/* Feeds a piece and checks that all it completes, and nothing else, comes out. */
static void feed(struct lines *lines, struct cursor *cursor, int *told, size_t done, size_t len,
                 const struct check_cuts *cuts)
{
    const struct sent *sent = cursor->sent;
    uint8_t *piece = check_copy(sent->data + done, len);
    size_t at = 0;
    int whole;
    while (at < len) {
        struct lines_event ev;
        size_t used = lines_next(lines, piece + at, len - at, sent->max, &ev);
        check_that(used > 0 && used <= len - at, cuts);
        at += used;
        if (ev.kind != LINES_MORE) {
            is_next(cursor, told, done + at, &ev, cuts);
        } else {
            check_that(at == len || *told, cuts);
        }
    }
    free(piece);
    /* What was not told is a beginning of a line that still may become one. */
    skip_told(cursor, told, done + len);
    size_t rest = line_at(cursor, done + len, &whole);
    check_that(!whole && (rest == 0 || rest + 1 <= sent->max), cuts);
}

static void cut_sent(const void *arg, struct check_cuts cuts)
{
    const struct sent *sent = arg;
    struct lines lines = {0};
    struct lines_event ev;
    struct cursor cursor = {sent, 0};
    size_t done = 0;
    int told = 0;
    int whole;
    while (done < sent->len) {
        size_t len = check_piece(&cuts, done, sent->len);
        feed(&lines, &cursor, &told, done, len, &cuts);
        done += len;
        check_that(lines.cap <= 2 * sent->max || lines.cap <= 256, &cuts);
    }
    size_t rest = line_at(&cursor, sent->len, &whole);
    lines_last(&lines, &ev);
    check_that(ev.kind == (rest > 0 ? LINES_LINE : LINES_MORE), &cuts);
    check_that(rest == 0 ||
                   (ev.len == rest && memcmp(ev.data, sent->data + cursor.from, rest) == 0),
               &cuts);
    lines_free(&lines);
}

static void all_cuts(const char *data, size_t len)
{
    const struct sent sent = {data, len, LIMIT};
    check_all_cuts(cut_sent, &sent, len);
}

/* What comes out of a stream in one piece, written down: L is a line, X one that is too long. */
static void gives(const char *data, const char *expected)
{
    const size_t len = strlen(data);
    struct lines lines = {0};
    struct lines_event ev;
    char got[512];
    size_t at = 0;
    size_t out = 0;
    while (at < len) {
        at += lines_next(&lines, (const uint8_t *)data + at, len - at, LIMIT, &ev);
        if (ev.kind != LINES_MORE) {
            got[out++] = ev.kind == LINES_LINE ? 'L' : 'X';
            memcpy(got + out, ev.data, ev.len);
            out += ev.len;
            got[out++] = '|';
        }
    }
    got[out] = '\0';
    assert_string_equal(got, expected);
    lines_free(&lines);
    all_cuts(data, len);
}

static void lines_end_with_lf(void **state)
{
    (void)state;
    gives("one\n", "Lone|");
    gives("one\ntwo\nthree\n", "Lone|Ltwo|Lthree|");
    gives("one\r\ntwo\r\n", "Lone\r|Ltwo\r|");
}

static void a_line_without_its_lf_waits(void **state)
{
    (void)state;
    gives("one", "");
    gives("one\ntw", "Lone|");
}

static void empty_lines_are_lines(void **state)
{
    (void)state;
    gives("\n", "L|");
    gives("\n\n\n", "L|L|L|");
    gives("a\n\nb\n", "La|L|Lb|");
}

static void a_line_may_hold_any_byte(void **state)
{
    static const char data[] = "\0\xff\0\n\0\n\r\n";
    struct lines lines = {0};
    struct lines_event ev;
    (void)state;
    assert_int_equal(lines_next(&lines, (const uint8_t *)data, 8, LIMIT, &ev), 4);
    assert_int_equal(ev.kind, LINES_LINE);
    assert_int_equal(ev.len, 3);
    assert_memory_equal(ev.data, "\0\xff", 3);
    all_cuts(data, sizeof(data) - 1);
}

static void a_line_of_the_limit_is_a_line(void **state)
{
    (void)state;
    gives("123456789012345\n", "L123456789012345|");
    gives("123456789012345\n123456789012345\n", "L123456789012345|L123456789012345|");
    gives("123456789012345", "");
}

static void a_line_over_the_limit_is_told_once_and_skipped(void **state)
{
    (void)state;
    gives("1234567890123456\n", "X1234567890123456|");
    gives("1234567890123456\nnext\n", "X1234567890123456|Lnext|");
    gives("1234567890123456", "X1234567890123456|");
    gives("a\n12345678901234567890123456789012345\nb\n",
          "La|X12345678901234567890123456789012345|Lb|");
    gives("1234567890123456\n\n1234567890123456\n", "X1234567890123456|L|X1234567890123456|");
}

static void a_long_line_is_skipped_across_any_number_of_pieces(void **state)
{
    struct lines lines = {0};
    struct lines_event ev;
    uint8_t piece[100];
    (void)state;
    memset(piece, 'x', sizeof(piece));
    lines_next(&lines, piece, sizeof(piece), LIMIT, &ev);
    assert_int_equal(ev.kind, LINES_LONG);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(lines_next(&lines, piece, sizeof(piece), LIMIT, &ev), sizeof(piece));
        assert_int_equal(ev.kind, LINES_MORE);
        assert_null(lines.held);
    }
    assert_int_equal(lines_next(&lines, (const uint8_t *)"end\nok\n", 7, LIMIT, &ev), 4);
    assert_int_equal(ev.kind, LINES_MORE);
    assert_int_equal(lines_next(&lines, (const uint8_t *)"ok\n", 3, LIMIT, &ev), 3);
    assert_int_equal(ev.kind, LINES_LINE);
    assert_int_equal(ev.len, 2);
    lines_last(&lines, &ev);
    assert_int_equal(ev.kind, LINES_MORE);
    lines_free(&lines);
}

static void freeing_within_a_long_line_still_skips_its_rest(void **state)
{
    struct lines lines = {0};
    struct lines_event ev;
    (void)state;
    lines_next(&lines, (const uint8_t *)"12345678901234567", 17, LIMIT, &ev);
    assert_int_equal(ev.kind, LINES_LONG);
    lines_free(&lines);
    lines_next(&lines, (const uint8_t *)"rest\n", 5, LIMIT, &ev);
    assert_int_equal(ev.kind, LINES_MORE);
    lines_next(&lines, (const uint8_t *)"ok\n", 3, LIMIT, &ev);
    assert_int_equal(ev.kind, LINES_LINE);
    lines_free(&lines);
}

static void a_whole_line_is_not_copied(void **state)
{
    static const uint8_t data[] = "one\n";
    struct lines lines = {0};
    struct lines_event ev;
    (void)state;
    lines_next(&lines, data, 4, LIMIT, &ev);
    assert_ptr_equal(ev.data, data);
    assert_null(lines.held);
    /* Also behind one that had to be held, whose memory is then given back. */
    lines_next(&lines, data, 2, LIMIT, &ev);
    assert_non_null(lines.held);
    lines_next(&lines, data + 2, 2, LIMIT, &ev);
    assert_int_equal(ev.len, 3);
    assert_memory_equal(ev.data, "one", 3);
    lines_next(&lines, data, 4, LIMIT, &ev);
    assert_ptr_equal(ev.data, data);
    assert_null(lines.held);
}

static void nor_is_a_whole_line_of_the_limit(void **state)
{
    struct lines lines = {0};
    struct lines_event ev;
    (void)state;
    lines_next(&lines, (const uint8_t *)"123456789012345\n", 16, LIMIT, &ev);
    assert_int_equal(ev.kind, LINES_LINE);
    assert_null(lines.held);
}

static void an_empty_piece_completes_nothing(void **state)
{
    struct lines lines = {0};
    struct lines_event ev;
    (void)state;
    assert_int_equal(lines_next(&lines, NULL, 0, LIMIT, &ev), 0);
    assert_int_equal(ev.kind, LINES_MORE);
    lines_next(&lines, (const uint8_t *)"ab", 2, LIMIT, &ev);
    assert_int_equal(lines_next(&lines, NULL, 0, LIMIT, &ev), 0);
    assert_int_equal(ev.kind, LINES_MORE);
    lines_last(&lines, &ev);
    assert_int_equal(ev.kind, LINES_LINE);
    assert_int_equal(ev.len, 2);
    lines_last(&lines, &ev);
    assert_int_equal(ev.kind, LINES_MORE);
    lines_free(&lines);
}

static void random_streams_are_cut_as_the_reference_says(void **state)
{
    uint64_t seed = 8;
    (void)state;
    for (int round = 0; round < 5000; round++) {
        char data[400];
        struct sent sent = {data, check_below(&seed, sizeof(data)), LIMIT};
        size_t rare = 2 + check_below(&seed, 40);
        for (size_t i = 0; i < sent.len; i++) {
            data[i] = check_below(&seed, rare) == 0 ? '\n' : (char)('a' + i % 26);
        }
        cut_sent(&sent, (struct check_cuts){.way = CHECK_WHOLE});
        cut_sent(&sent, (struct check_cuts){.way = CHECK_SINGLE});
        cut_sent(&sent, (struct check_cuts){CHECK_RANDOM, 0, check_random(&seed)});
    }
}

static void lines_near_the_limit_of_reports_are_cut_alike(void **state)
{
    uint64_t seed = 9;
    char *data = malloc(3 * 8193);
    (void)state;
    assert_non_null(data);
    for (size_t len = 8190; len <= 8193; len++) {
        struct sent sent = {data, 3 * len, 8192};
        memset(data, 'r', sent.len);
        for (size_t i = 1; i <= 3; i++) {
            data[i * len - 1] = '\n';
        }
        cut_sent(&sent, (struct check_cuts){.way = CHECK_WHOLE});
        cut_sent(&sent, (struct check_cuts){.way = CHECK_SINGLE});
        for (int i = 0; i < 50; i++) {
            cut_sent(&sent, (struct check_cuts){CHECK_RANDOM, 0, check_random(&seed)});
            cut_sent(&sent, (struct check_cuts){CHECK_SPLIT, check_below(&seed, sent.len), 0});
        }
    }
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_with_lf),
        cmocka_unit_test(a_line_without_its_lf_waits),
        cmocka_unit_test(empty_lines_are_lines),
        cmocka_unit_test(a_line_may_hold_any_byte),
        cmocka_unit_test(a_line_of_the_limit_is_a_line),
        cmocka_unit_test(a_line_over_the_limit_is_told_once_and_skipped),
        cmocka_unit_test(a_long_line_is_skipped_across_any_number_of_pieces),
        cmocka_unit_test(freeing_within_a_long_line_still_skips_its_rest),
        cmocka_unit_test(a_whole_line_is_not_copied),
        cmocka_unit_test(nor_is_a_whole_line_of_the_limit),
        cmocka_unit_test(an_empty_piece_completes_nothing),
        cmocka_unit_test(random_streams_are_cut_as_the_reference_says),
        cmocka_unit_test(lines_near_the_limit_of_reports_are_cut_alike),
    };
    return cmocka_run_group_tests_name("lines", tests, NULL, NULL);
}
