/*
 * What a query asks for, pages and their budget, the ring of failures, and hostile texts in the
 * formats that are not JSON.
 */
#include "check.h"
#include "deferd/failures.h"
#include "deferd/page.h"
#include "deferd/render.h"
#include "deferd/request.h"
#include "deferd/status.h"

#include <stdio.h>

#define TEXT(literal) (literal), sizeof(literal) - 1

static void a_query_is_read_as_php_fpm_reads_it(void **state)
{
    static const struct {
        const char *query;
        enum status_format format;
        int full;
    } rows[] = {
        {"", STATUS_TEXT, 0},
        {"full", STATUS_TEXT, 1},
        {"json", STATUS_JSON, 0},
        {"json&full", STATUS_JSON, 1},
        {"full&json", STATUS_JSON, 1},
        {"json=", STATUS_JSON, 0},
        {"json=0&full=no", STATUS_JSON, 1},
        {"xml", STATUS_XML, 0},
        {"html", STATUS_HTML, 0},
        {"openmetrics", STATUS_OPENMETRICS, 0},
        {"json&html", STATUS_HTML, 0},
        {"openmetrics&json&xml", STATUS_XML, 0},
        {"jso", STATUS_TEXT, 0},
        {"jsonx", STATUS_TEXT, 0},
        {"xjson", STATUS_TEXT, 0},
        {"JSON", STATUS_TEXT, 0},
        {"&&&json", STATUS_JSON, 0},
        {"json&", STATUS_JSON, 0},
        {"a=json", STATUS_TEXT, 0},
        {"=full", STATUS_TEXT, 0},
        {"&", STATUS_TEXT, 0},
    };
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        int full;
        size_t len = strlen(rows[i].query);
        uint8_t *query = check_copy(rows[i].query, len);
        if (status_query((const char *)query, len, &full) != rows[i].format ||
            full != rows[i].full) {
            fail_msg("\"%s\"", rows[i].query);
        }
        free(query);
    }
}

/* --- pages ------------------------------------------------------------------------------------ */

static struct page *make(struct page_budget *budget, size_t len)
{
    struct buf body = {0};
    uint8_t *data = calloc(1, len);
    assert_int_equal(buf_append(&body, data, len), 0);
    free(data);
    struct page *page = page_make(budget, "text/plain", &body);
    assert_null(body.data);
    return page;
}

static void pages_share_a_budget_that_they_give_back(void **state)
{
    struct page_budget budget = {0};
    struct page *pages[4];
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(pages); i++) {
        pages[i] = make(&budget, PAGE_BUDGET / 4);
        assert_non_null(pages[i]);
    }
    assert_null(make(&budget, 1));
    struct page *text = page_text(&budget, 503, "busy\n"); /* there is always room for that */
    assert_non_null(text);
    page_release(text);
    page_release(page_hold(pages[0]));
    assert_null(make(&budget, 1));
    page_release(pages[0]);
    page_release(make(&budget, 1));
    for (size_t i = 1; i < CHECK_COUNT(pages); i++) {
        page_release(pages[i]);
    }
    page_release(NULL);
    assert_int_equal(budget.used, 0);
}

static void a_head_ends_with_an_empty_line(void **state)
{
    char head[PAGE_HEAD_MAX];
    struct page_budget budget = {0};
    struct page *page = page_text(&budget, 405, "no\n");
    (void)state;
    memset(page->policy, 'p', sizeof(page->policy) - 1); /* the longest */
    size_t len = page_cgi_head(page, head, sizeof(head), 0);
    assert_true(len < sizeof(head));
    assert_memory_equal(head, "Status: 405 Method Not Allowed\r\n", 32);
    assert_non_null(strstr(head, "Content-Length: 3\r\n"));
    assert_string_equal(head + len - 4, "\r\n\r\n");
    page_cgi_head(page, head, sizeof(head), 1);
    assert_null(strstr(head, "Content-Length"));
    len = page_http_head(page, head, sizeof(head));
    assert_true(len < sizeof(head));
    assert_memory_equal(head, "HTTP/1.1 405 Method Not Allowed\r\n", 33);
    assert_non_null(strstr(head, "\r\nAllow: GET, HEAD\r\n"));
    page_release(page);
}

/* --- failures --------------------------------------------------------------------------------- */

static void the_last_failures_are_kept(void **state)
{
    struct failures *failures = calloc(1, sizeof(*failures));
    struct request *request = calloc(1, sizeof(*request));
    static uint8_t uri[100000];
    (void)state;
    memset(uri, 'u', sizeof(uri));
    assert_null(failures_back(failures, 0));
    request->head.uri = (struct slice){uri, sizeof(uri)};
    request->head.method = (struct slice){uri, sizeof(uri)};
    for (unsigned i = 1; i <= FAILURES_KEPT + 3; i++) {
        request->id = i;
        failures_add(failures, request, OUTCOME_LOST);
        assert_int_equal(failures_back(failures, 0)->id, i);
    }
    for (unsigned i = 0; i < FAILURES_KEPT; i++) {
        const struct failure *failure = failures_back(failures, i);
        assert_int_equal(failure->id, FAILURES_KEPT + 3 - i);
        assert_int_equal(failure->uri_len, sizeof(failure->uri));
        assert_int_equal(failure->method_len, sizeof(failure->method));
    }
    assert_null(failures_back(failures, FAILURES_KEPT));
    free(request);
    free(failures);
}

/* --- texts ------------------------------------------------------------------------------------ */

static char *rendered(int (*render)(struct buf *, const json_t *), const char *uri, size_t len)
{
    struct buf out = {0};
    json_t *row = json_object();
    json_object_set_new(row, "request uri", json_stringn(uri, len));
    json_t *rows = json_array();
    json_array_append_new(rows, row);
    json_t *snapshot = json_object();
    json_object_set_new(snapshot, "processes", rows);
    assert_int_equal(render(&out, snapshot), 0);
    json_decref(snapshot);
    assert_int_equal(buf_append(&out, "", 1), 0);
    return (char *)out.data;
}

static void a_text_cannot_begin_a_line_of_its_own(void **state)
{
    char *text = rendered(render_text, TEXT("/a\npool: evil\r\x00\x7f\x1b[31m"));
    (void)state;
    assert_non_null(strstr(text, "/a\\x0Apool: evil\\x0D\\x00\\x7F\\x1B[31m\n"));
    assert_null(strstr(text, "\npool"));
    free(text);
}

static void a_text_stays_within_its_element(void **state)
{
    char *text = rendered(render_xml, TEXT("/</request-uri>&\"'\x01\xef\xbf\xbf\xef\xbf\xbe"
                                           "\xef\xbb\xbf"));
    (void)state;
    assert_non_null(strstr(text, "<request-uri>/&lt;/request-uri&gt;&amp;&quot;'\\x01"
                                 "\\xEF\\xBF\\xBF\\xEF\\xBF\\xBE\xef\xbb\xbf</request-uri>"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_is_read_as_php_fpm_reads_it),
        cmocka_unit_test(pages_share_a_budget_that_they_give_back),
        cmocka_unit_test(a_head_ends_with_an_empty_line),
        cmocka_unit_test(the_last_failures_are_kept),
        cmocka_unit_test(a_text_cannot_begin_a_line_of_its_own),
        cmocka_unit_test(a_text_stays_within_its_element),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
