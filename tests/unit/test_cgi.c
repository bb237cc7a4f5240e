/*
 * The header block of a CGI response, and the responses deferd makes itself.
 */
#include "check.h"
#include "deferd/cgi.h"
#include "naive.h"

#include <limits.h>
#include <stdio.h>

struct sent {
    const uint8_t *data;
    size_t len;
};

/* Scans a response as it grows by these cuts, at another place in memory each time. */
static void scan_sent(const void *arg, struct check_cuts cuts)
{
    const struct sent *sent = arg;
    struct cgi_head head = {0};
    size_t have = 0;
    while (have < sent->len) {
        have += check_piece(&cuts, have, sent->len);
        uint8_t *data = check_copy(sent->data, have);
        size_t len = cgi_head_scan(&head, data, have);
        free(data);
        check_that(len == naive_head(sent->data, have), &cuts);
        if (len > 0) {
            check_that(cgi_head_status(&head) == naive_status(sent->data, len), &cuts);
            return;
        }
    }
}

/* The block ends at end (0: nowhere), its status is status, however it is cut. */
static void is_head(const uint8_t *data, size_t len, size_t end, int status)
{
    const struct sent sent = {data, len};
    struct cgi_head head = {0};
    uint8_t *copy = check_copy(data, len);
    assert_int_equal(cgi_head_scan(&head, copy, len), end);
    if (end > 0) {
        assert_int_equal(cgi_head_status(&head), status);
    }
    free(copy);
    check_all_cuts(scan_sent, &sent, len);
}

/* Blocks without a body, so that the block is the whole of it. */
static void has_status(const char *block, int status)
{
    is_head((const uint8_t *)block, strlen(block), strlen(block), status);
}

static void lines_end_with_lf_or_crlf_or_both_kinds(void **state)
{
    (void)state;
    has_status("Content-Type: text/html\r\n\r\n", 200);
    has_status("Content-Type: text/html\n\n", 200);
    has_status("Content-Type: text/html\r\nStatus: 404\n\r\n", 404);
    has_status("Content-Type: text/html\nStatus: 404\r\n\n", 404);
    has_status("Status: 404\nX: y\r\n\r\n", 404);
}

static void the_body_is_not_part_of_the_block(void **state)
{
    (void)state;
    is_head(CHECK_BYTES("A: b\r\n\r\nbody\r\n\r\nmore"), 8, 200);
    is_head(CHECK_BYTES("A: b\n\n\n\n"), 6, 200);
    is_head(CHECK_BYTES("A: b\n\nStatus: 500\n\n"), 6, 200);
    is_head(CHECK_BYTES("A: b\n\n\0\xff\0"), 6, 200);
}

static void a_block_may_be_empty(void **state)
{
    (void)state;
    has_status("\r\n", 200);
    has_status("\n", 200);
    is_head(CHECK_BYTES("\nbody"), 1, 200);
    is_head(CHECK_BYTES("\r\nbody\n\n"), 2, 200);
}

static void a_block_without_an_empty_line_is_not_complete(void **state)
{
    (void)state;
    is_head(CHECK_BYTES(""), 0, 0);
    is_head(CHECK_BYTES("A"), 0, 0);
    is_head(CHECK_BYTES("A: b"), 0, 0);
    is_head(CHECK_BYTES("A: b\r\n"), 0, 0);
    is_head(CHECK_BYTES("A: b\r\n\r"), 0, 0);
    is_head(CHECK_BYTES("A: b\r\n\r\r\n"), 0, 0); /* a line with a CR in it */
    is_head(CHECK_BYTES("A: b\r\n \n"), 0, 0);
    is_head(CHECK_BYTES("A: b\r\n\0\n"), 0, 0);
    is_head(CHECK_BYTES("\r\r\n"), 0, 0);
    is_head(CHECK_BYTES("\r"), 0, 0);
}

static void the_status_may_have_a_reason(void **state)
{
    (void)state;
    has_status("Status: 404 Not Found\r\n\r\n", 404);
    has_status("Status: 404\r\n\r\n", 404);
    has_status("Status: 404 \r\n\r\n", 404);
    has_status("Status:404\r\n\r\n", 404);
    has_status("Status: \t  503 Busy\r\n\r\n", 503);
    has_status("X-One: 1\r\nX-Two: 2\r\nStatus: 201 Created\r\nX-Three: 3\r\n\r\n", 201);
}

static void field_names_are_read_in_any_case(void **state)
{
    (void)state;
    has_status("STATUS: 404\r\n\r\n", 404);
    has_status("status: 404\r\n\r\n", 404);
    has_status("sTaTuS: 404\r\n\r\n", 404);
    has_status("LOCATION: /\r\n\r\n", 302);
    has_status("location: /\r\n\r\n", 302);
}

static void only_the_field_of_that_name_is_the_status(void **state)
{
    (void)state;
    has_status("X-Status: 404\r\n\r\n", 200);
    has_status("Status-X: 404\r\n\r\n", 200);
    has_status("Statu: 404\r\n\r\n", 200);
    has_status("Statuss: 404\r\n\r\n", 200);
    has_status("Status 404\r\n\r\n", 200);
    has_status("Status\r\n\r\n", 200);
    has_status("XLocation: /\r\n\r\n", 200);
    has_status("Location\r\n\r\n", 200);
    has_status("Content-Location: /\r\n\r\n", 200);
}

static void a_location_alone_redirects(void **state)
{
    (void)state;
    has_status("Location: /next\r\n\r\n", 302);
    has_status("Location:\r\n\r\n", 302);
    has_status("Location: /next\r\nStatus: 201 Created\r\n\r\n", 201);
    has_status("Status: 301 Moved\r\nLocation: /next\r\n\r\n", 301);
}

static void every_status_of_three_digits_is_taken(void **state)
{
    char block[64];
    (void)state;
    for (int status = 0; status < 1000; status++) {
        snprintf(block, sizeof(block), "Status: %03d x\r\n\r\n", status);
        struct cgi_head head = {0};
        assert_int_equal(cgi_head_scan(&head, (const uint8_t *)block, strlen(block)),
                         strlen(block));
        assert_int_equal(cgi_head_status(&head), status >= 100 ? status : 200);
    }
}

static void a_status_that_is_none_is_ignored(void **state)
{
    (void)state;
    has_status("Status:\r\n\r\n", 200);
    has_status("Status: \r\n\r\n", 200);
    has_status("Status: 4\r\n\r\n", 200);
    has_status("Status: 40\r\n\r\n", 200);
    has_status("Status: 40x\r\n\r\n", 200);
    has_status("Status: 099\r\n\r\n", 200);
    has_status("Status: -404\r\n\r\n", 200);
    has_status("Status: +40\r\n\r\n", 200);
    has_status("Status: 4 04\r\n\r\n", 200);
    has_status("Status: OK\r\n\r\n", 200);
    has_status("Status: \"404\"\r\n\r\n", 200);
    has_status("Status: x\r\nLocation: /\r\n\r\n", 302);
    has_status("Status: \n404\r\n\r\n", 200); /* the digits are of the next line */
}

static void the_last_status_wins(void **state)
{
    (void)state;
    has_status("Status: 404\r\nStatus: 500\r\n\r\n", 500);
}

static void random_blocks_are_read_as_the_reference_reads_them(void **state)
{
    static const char *const parts[] = {"\n",       "\r\n",     "\r",  "\n\n",      "\r\n\r\n",
                                        "Status:",  "status: ", "404", "Location:", " ",
                                        "STATUS:9", "X: y",     "5",   "00",        "\t"};
    uint64_t seed = 7;
    (void)state;
    for (int round = 0; round < 20000; round++) {
        char data[256];
        struct sent sent = {(const uint8_t *)data, 0};
        size_t count = check_below(&seed, 20);
        for (size_t i = 0; i < count; i++) {
            const char *part = parts[check_below(&seed, CHECK_COUNT(parts))];
            memcpy(data + sent.len, part, strlen(part));
            sent.len += strlen(part);
        }
        scan_sent(&sent, (struct check_cuts){.way = CHECK_WHOLE});
        scan_sent(&sent, (struct check_cuts){.way = CHECK_SINGLE});
        scan_sent(&sent, (struct check_cuts){CHECK_RANDOM, 0, check_random(&seed)});
    }
}

static void an_error_page_is_a_response(void **state)
{
    static const char expected[] =
        "Status: 503 Service Unavailable\r\n"
        "Content-Type: text/html; charset=utf-8\r\n"
        "Cache-Control: no-store\r\n"
        "Content-Length: 150\r\n"
        "\r\n"
        "<!DOCTYPE html>\n<html><head><title>503 Service Unavailable</title></head>\n"
        "<body><h1>503 Service Unavailable</h1><p>Come back later.</p></body></html>\n";
    char page[1024];
    struct cgi_head head = {0};
    (void)state;
    size_t len = cgi_error_page(page, sizeof(page), 503, "Come back later.", 0, 0);
    assert_int_equal(len, sizeof(expected) - 1);
    assert_memory_equal(page, expected, len);
    size_t block = cgi_head_scan(&head, (const uint8_t *)page, len);
    assert_int_equal(cgi_head_status(&head), 503);
    assert_int_equal(len - block, 150);
    /* On HEAD the same block, its length included, and nothing behind it. */
    char head_only[1024];
    assert_int_equal(cgi_error_page(head_only, sizeof(head_only), 503, "Come back later.", 0, 1),
                     block);
    assert_memory_equal(head_only, page, block);
}

static void an_error_page_says_when_to_come_back(void **state)
{
    static const char field[] = "Retry-After: ";
    static const unsigned seconds[] = {1, 30, UINT_MAX};
    (void)state;
    for (int head_only = 0; head_only < 2; head_only++) {
        char plain[1024];
        size_t plain_len = cgi_error_page(plain, sizeof(plain), 503, "text", 0, head_only);
        plain[plain_len] = '\0';
        assert_null(strstr(plain, field));
        for (size_t i = 0; i < CHECK_COUNT(seconds); i++) {
            char page[1024];
            char line[64];
            struct cgi_head head = {0};
            size_t line_len = (size_t)snprintf(line, sizeof(line), "%s%u\r\n", field, seconds[i]);
            size_t len = cgi_error_page(page, sizeof(page), 503, "text", seconds[i], head_only);
            size_t block = cgi_head_scan(&head, (const uint8_t *)page, len);
            char *at = memmem(page, block, line, line_len);
            assert_non_null(at);
            /* Without its line, which is one of the header block, the page is the same. */
            assert_int_equal(at[-1], '\n');
            memmove(at, at + line_len, len - (size_t)(at - page) - line_len);
            assert_int_equal(len - line_len, plain_len);
            assert_memory_equal(page, plain, plain_len);
        }
    }
}

static void an_error_page_fits_or_is_not_made(void **state)
{
    char whole[1024];
    (void)state;
    for (int way = 0; way < 4; way++) {
        const int head_only = way & 1;
        const unsigned retry_after = way & 2 ? UINT_MAX : 0;
        size_t len = cgi_error_page(whole, sizeof(whole), 502, "text", retry_after, head_only);
        assert_true(len > 0);
        for (size_t size = 0; size <= len + 2; size++) {
            char *out = malloc(size + 1);
            assert_non_null(out);
            out[size] = 0x55;
            assert_int_equal(cgi_error_page(out, size, 502, "text", retry_after, head_only),
                             size > len ? len : 0);
            assert_int_equal(out[size], 0x55);
            if (size > len) {
                assert_memory_equal(out, whole, len);
            }
            free(out);
        }
    }
}

static void an_error_page_never_cuts_its_text(void **state)
{
    static const char tail[] = "</p></body></html>\n";
    char text[2048];
    char page[4096];
    int made = 0;
    int refused = 0;
    (void)state;
    for (size_t len = 0; len < sizeof(text); len++) {
        memset(text, 't', len);
        text[len] = '\0';
        size_t n = cgi_error_page(page, sizeof(page), 502, text, 0, 0);
        made += n > 0;
        refused += n == 0;
        assert_false(n > 0 && refused > 0);
        if (n > 0) {
            struct cgi_head head = {0};
            char *length = strstr(page, "Content-Length: ");
            size_t block = cgi_head_scan(&head, (const uint8_t *)page, n);
            assert_non_null(length);
            assert_int_equal(strtoul(length + 16, NULL, 10), n - block);
            assert_memory_equal(page + n - (sizeof(tail) - 1), tail, sizeof(tail) - 1);
        }
    }
    assert_true(made > 200); /* sentences fit */
    assert_true(refused > 0);
}

static void statuses_have_reasons(void **state)
{
    (void)state;
    assert_string_equal(cgi_reason(431), "Request Header Fields Too Large");
    assert_string_equal(cgi_reason(502), "Bad Gateway");
    assert_string_equal(cgi_reason(503), "Service Unavailable");
    assert_string_equal(cgi_reason(599), "Error");
    assert_string_equal(cgi_reason(-1), "Error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_with_lf_or_crlf_or_both_kinds),
        cmocka_unit_test(the_body_is_not_part_of_the_block),
        cmocka_unit_test(a_block_may_be_empty),
        cmocka_unit_test(a_block_without_an_empty_line_is_not_complete),
        cmocka_unit_test(the_status_may_have_a_reason),
        cmocka_unit_test(field_names_are_read_in_any_case),
        cmocka_unit_test(only_the_field_of_that_name_is_the_status),
        cmocka_unit_test(a_location_alone_redirects),
        cmocka_unit_test(every_status_of_three_digits_is_taken),
        cmocka_unit_test(a_status_that_is_none_is_ignored),
        cmocka_unit_test(the_last_status_wins),
        cmocka_unit_test(random_blocks_are_read_as_the_reference_reads_them),
        cmocka_unit_test(an_error_page_is_a_response),
        cmocka_unit_test(an_error_page_says_when_to_come_back),
        cmocka_unit_test(an_error_page_fits_or_is_not_made),
        cmocka_unit_test(an_error_page_never_cuts_its_text),
        cmocka_unit_test(statuses_have_reasons),
    };
    return cmocka_run_group_tests_name("cgi", tests, NULL, NULL);
}
