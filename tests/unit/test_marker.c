/*
 * The search for the marker: found wherever it stands and however it is cut, and not a byte of the
 * response lost, changed, or held back longer than it must be.
 */
#include "check.h"
#include "deferd/marker.h"
#include "naive.h"

#define TOKEN "0123456789abcdef0123456789abcdef"
#define OTHER "0123456789abcdef0123456789abcdee"
#define PREFIX                                                                                     \
    "\x1e"                                                                                         \
    "DEFERD/1 END "
#define MARK PREFIX TOKEN "\n"

struct sent {
    const uint8_t *data;
    size_t len;
};

static void marker_is(const struct marker *marker)
{
    assert_int_equal(sizeof(marker->bytes), sizeof(MARK) - 1);
    assert_memory_equal(marker->bytes, MARK, sizeof(MARK) - 1);
}

/* Checks what a scan of sent->data[from..from + len) said; out has what came before, done bytes of
 * it. Returns how much has come now. */
static size_t take(const struct sent *sent, size_t from, size_t len, uint8_t *out, size_t done,
                   const struct marker *marker, const struct marker_scan *scan,
                   const struct check_cuts *cuts)
{
    int found;
    size_t due = naive_response(sent->data, from + len, marker->bytes, MARKER_LEN, &found);
    check_that(scan->found == found, cuts);
    check_that(scan->replay <= from - done, cuts);
    check_that(scan->pass <= scan->used && scan->used <= len, cuts);
    check_that(done + scan->replay + scan->pass == due, cuts);
    memcpy(out + done, marker->bytes, scan->replay);
    memcpy(out + done + scan->replay, sent->data + from, scan->pass);
    check_that(memcmp(out + done, sent->data + done, scan->replay + scan->pass) == 0, cuts);
    if (found) {
        check_that(from + scan->used == due + MARKER_LEN, cuts);
        check_that(marker->matched == 0, cuts);
    } else {
        check_that(scan->used == len, cuts);
        check_that(marker->matched == from + len - due, cuts);
    }
    return due;
}

/* After each piece, exactly the response that can be known so far has come out. */
static void scan_sent(const void *arg, struct check_cuts cuts)
{
    const struct sent *sent = arg;
    struct marker marker;
    uint8_t *out = malloc(sent->len + 1);
    size_t done = 0;
    size_t from = 0;
    assert_non_null(out);
    marker_init(&marker, TOKEN);
    while (from < sent->len) {
        struct marker_scan scan;
        size_t len = check_piece(&cuts, from, sent->len);
        uint8_t *piece = check_copy(sent->data + from, len);
        memset(&scan, 0x55, sizeof(scan));
        marker_scan(&marker, piece, len, &scan);
        free(piece);
        done = take(sent, from, len, out, done, &marker, &scan, &cuts);
        marker_is(&marker);
        if (scan.found) {
            break;
        }
        from += len;
    }
    free(out);
}

static void scan_all_cuts(const uint8_t *data, size_t len)
{
    const struct sent sent = {data, len};
    check_all_cuts(scan_sent, &sent, len);
}

/* What the stream is must not depend on the reference either. */
static void finds_at(const uint8_t *data, size_t len, size_t at)
{
    struct marker marker;
    struct marker_scan scan;
    marker_init(&marker, TOKEN);
    marker_scan(&marker, data, len, &scan);
    assert_true(scan.found);
    assert_int_equal(scan.replay, 0);
    assert_int_equal(scan.pass, at);
    assert_int_equal(scan.used, at + MARKER_LEN);
    scan_all_cuts(data, len);
}

static void finds_none(const uint8_t *data, size_t len, size_t held)
{
    struct marker marker;
    struct marker_scan scan;
    marker_init(&marker, TOKEN);
    marker_scan(&marker, data, len, &scan);
    assert_false(scan.found);
    assert_int_equal(scan.pass, len - held);
    assert_int_equal(marker.matched, held);
    scan_all_cuts(data, len);
}

static void the_marker_is_what_the_protocol_says(void **state)
{
    struct marker marker;
    char *token = (char *)check_copy(TOKEN, MARKER_TOKEN_LEN); /* not terminated */
    (void)state;
    memset(&marker, 0xff, sizeof(marker));
    marker_init(&marker, token);
    free(token);
    marker_is(&marker);
    assert_int_equal(marker.matched, 0);
    assert_int_equal(MARKER_LEN, 47);
}

static void a_marker_is_found_wherever_it_stands(void **state)
{
    (void)state;
    finds_at(CHECK_BYTES(MARK), 0);
    finds_at(CHECK_BYTES("body" MARK), 4);
    finds_at(CHECK_BYTES(MARK "{\"event\":\"end\"}\n"), 0);
    finds_at(CHECK_BYTES("Content-Type: text/html\r\n\r\nbody\n" MARK "{}\n"), 32);
    finds_at(CHECK_BYTES("\0\0" MARK "\0\0"), 2);
}

static void only_the_first_marker_counts(void **state)
{
    (void)state;
    finds_at(CHECK_BYTES("a" MARK MARK), 1);
    finds_at(CHECK_BYTES(MARK "a" MARK), 0);
}

static void repeated_beginnings_of_the_marker_are_response(void **state)
{
    (void)state;
    finds_at(CHECK_BYTES("\x1e"
                         "DEFERD/1 EN" MARK),
             12);
    finds_at(CHECK_BYTES(PREFIX MARK), 14);
    finds_at(CHECK_BYTES(PREFIX TOKEN MARK), 46);
    finds_at(CHECK_BYTES("\x1e"
                         "D"
                         "\x1e"
                         "DE"
                         "\x1e"
                         "DEF" MARK),
             9);
    finds_at(CHECK_BYTES("\x1e\x1e\x1e\x1e\x1e\x1e" MARK), 6);
    finds_at(CHECK_BYTES(PREFIX TOKEN "\r\n" MARK), 48);
    finds_none(CHECK_BYTES("\x1e"
                           "DEFERD/1 EN"
                           "\x1e"
                           "DEFERD/1 END"),
               13);
}

static void every_beginning_of_the_marker_may_come_before_it(void **state)
{
    uint8_t data[3 * MARKER_LEN];
    (void)state;
    for (size_t a = 1; a < MARKER_LEN; a++) {
        memcpy(data, MARK, a);
        memcpy(data + a, MARK "more", MARKER_LEN + 4);
        finds_at(data, a + MARKER_LEN + 4, a);
        for (size_t b = 1; b < MARKER_LEN; b += 9) {
            memcpy(data + a, MARK, b);
            memcpy(data + a + b, MARK, MARKER_LEN);
            finds_at(data, a + b + MARKER_LEN, a + b);
        }
    }
}

static void a_marker_with_any_byte_wrong_is_response(void **state)
{
    (void)state;
    for (size_t at = 0; at < MARKER_LEN; at++) {
        for (unsigned flip = 1; flip < 256; flip <<= 1) {
            uint8_t data[2 + MARKER_LEN];
            memcpy(data, "ab" MARK, sizeof(data));
            data[2 + at] ^= (uint8_t)flip;
            finds_none(data, sizeof(data), data[2 + at] == 0x1e ? MARKER_LEN - at : 0);
        }
    }
}

static void a_marker_with_another_token_is_response(void **state)
{
    (void)state;
    finds_none(CHECK_BYTES(PREFIX OTHER "\n"), 0);
    finds_none(CHECK_BYTES(PREFIX "0123456789ABCDEF0123456789ABCDEF\n"), 0);
    finds_at(CHECK_BYTES("x" PREFIX OTHER "\n" MARK), 48);
    finds_at(CHECK_BYTES(PREFIX OTHER MARK), 46);
}

static void a_marker_without_its_newline_is_held_back_to_the_end(void **state)
{
    (void)state;
    for (size_t len = 0; len < MARKER_LEN; len++) {
        uint8_t data[5 + MARKER_LEN];
        memcpy(data, "body\n" MARK, sizeof(data));
        finds_none(data, 5 + len, len);
    }
}

static void a_body_of_separators_is_response(void **state)
{
    uint8_t data[300];
    (void)state;
    memset(data, 0x1e, sizeof(data));
    finds_none(data, sizeof(data), 1);
    memcpy(data + sizeof(data) - MARKER_LEN, MARK, MARKER_LEN);
    finds_at(data, sizeof(data), sizeof(data) - MARKER_LEN);
}

static void a_marker_in_three_pieces_is_found(void **state)
{
    static const char data[] = "ab" MARK "cd";
    const size_t len = sizeof(data) - 1;
    (void)state;
    for (size_t a = 1; a + 1 < len; a++) {
        for (size_t b = a + 1; b < len; b++) {
            const size_t ends[] = {a, b, len};
            struct marker marker;
            struct marker_scan scan = {0};
            size_t from = 0;
            size_t out = 0;
            marker_init(&marker, TOKEN);
            for (size_t i = 0; i < 3 && !scan.found; i++) {
                marker_scan(&marker, (const uint8_t *)data + from, ends[i] - from, &scan);
                out += scan.replay + scan.pass;
                from += scan.used;
            }
            assert_true(scan.found);
            assert_int_equal(out, 2);
            assert_int_equal(from, 2 + MARKER_LEN);
        }
    }
}

static void an_empty_piece_changes_nothing(void **state)
{
    struct marker marker;
    struct marker_scan scan;
    (void)state;
    marker_init(&marker, TOKEN);
    for (size_t i = 0; i + 1 < MARKER_LEN; i++) {
        marker_scan(&marker, (const uint8_t *)MARK + i, 0, &scan);
        assert_int_equal(scan.replay + scan.pass + scan.used + (size_t)scan.found, 0);
        marker_scan(&marker, (const uint8_t *)MARK + i, 1, &scan);
        assert_int_equal(marker.matched, i + 1);
    }
    marker_scan(&marker, (const uint8_t *)"\n", 1, &scan);
    assert_true(scan.found);
}

/* A stream made of what is hardest: the marker, parts of it and nearly it, one behind another. */
static size_t hard_stream(uint8_t *data, size_t size, uint64_t *seed)
{
    size_t len = 0;
    size_t parts = 1 + check_below(seed, 12);
    for (size_t i = 0; i < parts && len + 2 * MARKER_LEN < size; i++) {
        uint8_t *at = data + len;
        size_t n = check_below(seed, MARKER_LEN);
        memcpy(at, MARK, MARKER_LEN);
        switch (check_below(seed, 8)) {
        case 0: /* whole, but not often: it ends the stream */
            n = check_below(seed, 6) == 0 ? MARKER_LEN : n;
            break;
        case 1: /* all but one byte */
            at[n] = (uint8_t)check_random(seed);
            n = MARKER_LEN;
            break;
        case 2: /* its end, without its beginning */
            memmove(at, at + n, MARKER_LEN - n);
            n = MARKER_LEN - n;
            break;
        case 3:
            memset(at, 0x1e, n);
            break;
        case 4:
            memset(at, "D\n\0a"[check_below(seed, 4)], n);
            break;
        default: /* its beginning */
            break;
        }
        len += n;
    }
    return len;
}

static void random_streams_come_out_as_the_reference_says(void **state)
{
    uint64_t seed = 6;
    uint8_t data[1024];
    size_t with = 0;
    (void)state;
    for (int round = 0; round < 5000; round++) {
        struct sent sent = {data, hard_stream(data, sizeof(data), &seed)};
        int found;
        naive_response(data, sent.len, (const uint8_t *)MARK, MARKER_LEN, &found);
        with += (size_t)found;
        for (int cuts = 0; cuts < 4; cuts++) {
            scan_sent(&sent, (struct check_cuts){CHECK_RANDOM, 0, check_random(&seed)});
        }
        scan_sent(&sent, (struct check_cuts){.way = CHECK_WHOLE});
        scan_sent(&sent, (struct check_cuts){.way = CHECK_SINGLE});
    }
    assert_in_range(with, 500, 4500); /* both kinds of stream came */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_marker_is_what_the_protocol_says),
        cmocka_unit_test(a_marker_is_found_wherever_it_stands),
        cmocka_unit_test(only_the_first_marker_counts),
        cmocka_unit_test(repeated_beginnings_of_the_marker_are_response),
        cmocka_unit_test(every_beginning_of_the_marker_may_come_before_it),
        cmocka_unit_test(a_marker_with_any_byte_wrong_is_response),
        cmocka_unit_test(a_marker_with_another_token_is_response),
        cmocka_unit_test(a_marker_without_its_newline_is_held_back_to_the_end),
        cmocka_unit_test(a_body_of_separators_is_response),
        cmocka_unit_test(a_marker_in_three_pieces_is_found),
        cmocka_unit_test(an_empty_piece_changes_nothing),
        cmocka_unit_test(random_streams_come_out_as_the_reference_says),
    };
    return cmocka_run_group_tests_name("marker", tests, NULL, NULL);
}
