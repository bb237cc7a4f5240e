/*
 * A request's head: the records that go upstream, and what is read out of its params.
 */
#include "check.h"
#include "deferd/fcgi.h"
#include "deferd/head.h"
#include "naive.h"

#include <stdio.h>
#include <uv.h>

#define TOKEN "0123456789abcdef0123456789abcdef"

/* Params as a web server sends them. Zeroed, there are none. */
struct params {
    uint8_t *bytes; /* owned */
    size_t len;
};

static void put_length(struct params *params, size_t len, int four)
{
    if (four) {
        params->bytes[params->len++] = (uint8_t)(0x80 | len >> 24);
        params->bytes[params->len++] = (uint8_t)(len >> 16);
        params->bytes[params->len++] = (uint8_t)(len >> 8);
    }
    params->bytes[params->len++] = (uint8_t)len;
}

static void put_bytes(struct params *params, const char *name, const void *value, size_t value_len)
{
    size_t name_len = strlen(name);
    params->bytes = realloc(params->bytes, params->len + 8 + name_len + value_len);
    assert_non_null(params->bytes);
    put_length(params, name_len, name_len > 127);
    put_length(params, value_len, value_len > 127);
    memcpy(params->bytes + params->len, name, name_len);
    memcpy(params->bytes + params->len + name_len, value, value_len);
    params->len += name_len + value_len;
}

static void put(struct params *params, const char *name, const char *value)
{
    put_bytes(params, name, value, strlen(value));
}

/* A pair that makes the params size bytes longer. */
static void fill(struct params *params, size_t size)
{
    char *value = malloc(size);
    assert_non_null(value);
    assert_true(size > 140);
    memset(value, 'f', size);
    put_bytes(params, "F", value, size - 6);
    free(value);
}

static void params_free(struct params *params)
{
    free(params->bytes);
    *params = (struct params){0};
}

/* Adds all params in these pieces. Returns what head_add returned last. */
static int add(struct head *head, const struct params *params, size_t max, struct check_cuts cuts)
{
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < params->len;) {
        size_t n = check_piece(&cuts, at, params->len);
        uint8_t *piece = check_copy(params->bytes + at, n);
        rc = head_add(head, piece, n, max);
        free(piece);
        at += n;
    }
    return rc;
}

static void is_slice(const struct head *head, const struct slice *slice,
                     const struct params *params, const char *name, const struct check_cuts *cuts)
{
    size_t len;
    const uint8_t *value = naive_param(params->bytes, params->len, name, &len);
    check_that(slice->len == len, cuts);
    check_that(len == 0 || memcmp(slice->data, value, len) == 0, cuts);
    check_that(len == 0 || (slice->data > head->records.data &&
                            slice->data + len < head->records.data + head->records.len),
               cuts);
}

/* The params become right records, and deferd's own are found in these, however they arrive. */
static void becomes_right(const void *arg, struct check_cuts cuts)
{
    const struct params *params = arg;
    struct head head = {0};
    check_that(add(&head, params, params->len, cuts) == 0, &cuts);
    check_that(head_end(&head, TOKEN) == 0, &cuts);
    check_that(head.done, &cuts);
    const char *wrong =
        naive_records(head.records.data, head.records.len, params->bytes, params->len, TOKEN);
    if (wrong != NULL) {
        fail_msg("%s; way %d, at %zu, seed %llx", wrong, (int)cuts.way, cuts.at,
                 (unsigned long long)cuts.seed);
    }
    is_slice(&head, &head.method, params, "REQUEST_METHOD", &cuts);
    is_slice(&head, &head.uri, params, "REQUEST_URI", &cuts);
    is_slice(&head, &head.class_name, params, "DEFERD_CLASS", &cuts);
    head_free(&head);
    check_that(head.records.data == NULL, &cuts);
}

/* The head of a request with one param more than its method. The caller frees it. */
static struct head head_with(const char *method, const char *name, const char *value)
{
    struct params params = {0};
    struct head head = {0};
    put(&params, "REQUEST_METHOD", method);
    put(&params, name, value);
    assert_int_equal(add(&head, &params, params.len, (struct check_cuts){CHECK_WHOLE, 0, 0}), 0);
    assert_int_equal(head_end(&head, TOKEN), 0);
    params_free(&params);
    return head;
}

/* What comes of params that are no good. */
static void is_refused(const struct params *params, int error)
{
    struct head head = {0};
    assert_int_equal(add(&head, params, params->len, (struct check_cuts){CHECK_WHOLE, 0, 0}), 0);
    assert_int_equal(head_end(&head, TOKEN), error);
    assert_false(head.done);
    head_free(&head);
}

/* --- records ---------------------------------------------------------------------------------- */

static void params_become_records_however_they_arrive(void **state)
{
    struct params params = {0};
    (void)state;
    put(&params, "REQUEST_METHOD", "GET");
    put(&params, "", "");
    put(&params, "DEFERD_CLASS", "admin");
    put(&params, "DEFERD_TOKEN", "forged");
    put(&params, "REQUEST_URI", "/a?b=c");
    put(&params, "EMPTY", "");
    fill(&params, 200);
    check_all_cuts(becomes_right, &params, params.len);
    params_free(&params);
}

static void a_request_without_params_has_its_token(void **state)
{
    const struct params params = {0};
    struct head head = {0};
    (void)state;
    becomes_right(&params, (struct check_cuts){CHECK_WHOLE, 0, 0});
    /* Also if an empty piece came. */
    assert_int_equal(head_add(&head, NULL, 0, 0), 0);
    assert_int_equal(head_end(&head, TOKEN), 0);
    assert_null(naive_records(head.records.data, head.records.len, NULL, 0, TOKEN));
    assert_int_equal(head.method.len + head.uri.len + head.class_name.len, 0);
    assert_int_equal(head.content_length, HEAD_LENGTH_NONE);
    head_free(&head);
}

static size_t count_params_records(const struct params *params)
{
    struct head head = {0};
    size_t count = 0;
    assert_int_equal(add(&head, params, params->len, (struct check_cuts){CHECK_WHOLE, 0, 0}), 0);
    assert_int_equal(head_end(&head, TOKEN), 0);
    for (size_t at = FCGI_SHORT_RECORD; at < head.records.len; count++) {
        at += FCGI_HEADER_LEN + (size_t)head.records.data[at + 4] * 256 + head.records.data[at + 5];
    }
    head_free(&head);
    return count - 2; /* without those of the token and of the end */
}

static void params_of_more_than_a_record_are_split_between_pairs(void **state)
{
    (void)state;
    for (size_t left = 0; left < 100; left++) {
        struct params params = {0};
        put(&params, "REQUEST_METHOD", "HEAD");
        fill(&params, 65535 - left - params.len);
        /* The first record ends before, between or behind these. */
        put(&params, "REQUEST_URI", "/at/the/border");
        put(&params, "", "");
        put(&params, "DEFERD_CLASS", "there/too");
        fill(&params, 200);
        assert_int_equal(count_params_records(&params), 2);
        becomes_right(&params, (struct check_cuts){CHECK_WHOLE, 0, 0});
        becomes_right(&params, (struct check_cuts){CHECK_RANDOM, 0, left});
        params_free(&params);
    }
}

static void one_byte_more_than_a_record_takes_two(void **state)
{
    struct params params = {0};
    (void)state;
    fill(&params, 60000);
    fill(&params, 5535);
    assert_int_equal(params.len, 65535);
    assert_int_equal(count_params_records(&params), 1);
    becomes_right(&params, (struct check_cuts){CHECK_WHOLE, 0, 0});
    params_free(&params);
    fill(&params, 60000);
    fill(&params, 5536);
    assert_int_equal(count_params_records(&params), 2);
    becomes_right(&params, (struct check_cuts){CHECK_WHOLE, 0, 0});
    params_free(&params);
}

/* The buffer with the records is another one then: what was read must lie in it. */
static void what_was_read_lies_in_the_split_records(void **state)
{
    static const struct {
        const char *name;
        const char *value;
    } pairs[] = {
        {"REQUEST_METHOD", "OPTIONS"},
        {"REQUEST_URI", "/somewhere"},
        {"DEFERD_CLASS", "reports"},
        {"CONTENT_LENGTH", "1234"},
    };
    (void)state;
    /* Each of them in each of the three records. */
    for (size_t way = 0; way < 81; way++) {
        struct params params = {0};
        struct head head = {0};
        for (size_t record = 0; record < 3; record++) {
            for (size_t i = 0, in = way; i < CHECK_COUNT(pairs); i++, in /= 3) {
                if (in % 3 == record) {
                    put(&params, pairs[i].name, pairs[i].value);
                }
            }
            fill(&params, 65000);
        }
        becomes_right(&params, (struct check_cuts){CHECK_WHOLE, 0, 0});
        becomes_right(&params, (struct check_cuts){CHECK_RANDOM, 0, way});
        assert_int_equal(add(&head, &params, params.len, (struct check_cuts){CHECK_WHOLE, 0, 0}),
                         0);
        assert_int_equal(head_end(&head, TOKEN), 0);
        assert_int_equal(head.content_length, 1234);
        assert_true(head.is_safe);
        assert_int_equal(head.uri.len, 10);
        head_free(&head);
        params_free(&params);
    }
}

static void many_pairs_fill_many_records(void **state)
{
    struct params params = {0};
    uint64_t seed = 21;
    (void)state;
    while (params.len < 400000) {
        char name[32] = "";
        snprintf(name, sizeof(name), "NAME_%zu", params.len);
        put_bytes(&params, name, name, check_below(&seed, sizeof(name)));
        if (check_below(&seed, 100) == 0) {
            fill(&params, 141 + check_below(&seed, 3000));
        }
    }
    put(&params, "REQUEST_METHOD", "GET");
    becomes_right(&params, (struct check_cuts){CHECK_WHOLE, 0, 0});
    for (int round = 0; round < 10; round++) {
        becomes_right(&params, (struct check_cuts){CHECK_RANDOM, 0, check_random(&seed)});
    }
    params_free(&params);
}

static void the_connection_is_kept_only_when_asked_to(void **state)
{
    struct head head = head_with("GET", "A", "b");
    const size_t flags = FCGI_HEADER_LEN + 2;
    uint8_t *before = check_copy(head.records.data, head.records.len);
    (void)state;
    assert_int_equal(before[flags], 0);
    for (int keep = 1; keep >= 0; keep--) {
        head_keep_conn(&head, keep);
        before[flags] = keep ? FCGI_KEEP_CONN : 0;
        assert_memory_equal(head.records.data, before, head.records.len);
    }
    free(before);
    head_free(&head);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void more_params_than_allowed_are_refused(void **state)
{
    struct params params = {0};
    (void)state;
    put(&params, "REQUEST_METHOD", "GET");
    put(&params, "REQUEST_URI", "/");
    for (size_t at = 1; at < params.len; at++) {
        struct head head = {0};
        const struct check_cuts cuts = {CHECK_SPLIT, at, 0};
        assert_int_equal(add(&head, &params, params.len - 1, cuts), UV_E2BIG);
        head_free(&head);
        assert_int_equal(add(&head, &params, params.len, cuts), 0);
        assert_int_equal(head_add(&head, params.bytes, 0, params.len), 0);
        assert_int_equal(head_add(&head, params.bytes, 1, params.len), UV_E2BIG);
        head_free(&head);
    }
    params_free(&params);
}

static void params_that_end_within_a_pair_are_refused(void **state)
{
    struct params params = {0};
    (void)state;
    put(&params, "REQUEST_METHOD", "GET");
    size_t whole = params.len;
    put(&params, "REQUEST_URI", "/");
    for (params.len--; params.len > whole; params.len--) {
        is_refused(&params, UV_EINVAL);
    }
    params_free(&params);
    /* Also in the last of several records. */
    for (size_t cut = 1; cut < 200; cut++) {
        fill(&params, 65000);
        fill(&params, 65000);
        fill(&params, 200);
        params.len -= cut;
        is_refused(&params, UV_EINVAL);
        params_free(&params);
    }
    /* And one that promises more than any param can have. */
    for (size_t before = 0; before < 2; before++) {
        if (before > 0) {
            fill(&params, 65535);
        }
        put(&params, "A", "b");
        params.bytes[params.len - 3] = 0xff;
        is_refused(&params, UV_EINVAL);
        params_free(&params);
    }
}

static void a_pair_that_no_record_can_hold_is_refused(void **state)
{
    (void)state;
    for (size_t size = 65534; size < 65540; size++) {
        for (int where = 0; where < 4; where++) {
            struct params params = {0};
            if (where & 1) {
                fill(&params, 300);
            }
            fill(&params, size);
            if (where & 2) {
                fill(&params, 300);
            }
            if (size > 65535) {
                is_refused(&params, UV_E2BIG);
            } else {
                becomes_right(&params, (struct check_cuts){CHECK_WHOLE, 0, 0});
            }
            params_free(&params);
        }
    }
}

/* --- what deferd reads ------------------------------------------------------------------------ */

static void the_content_length_is_a_number_or_odd_or_none(void **state)
{
    static const struct {
        const char *value;
        long long want;
    } rows[] = {
        {"", HEAD_LENGTH_NONE},
        {"0", 0},
        {"1", 1},
        {"0012", 12},
        {"65536", 65536},
        {"999999999999999999", 999999999999999999},
        {"1000000000000000000", HEAD_LENGTH_ODD},
        {"99999999999999999999999999", HEAD_LENGTH_ODD},
        {"-1", HEAD_LENGTH_ODD},
        {"+1", HEAD_LENGTH_ODD},
        {" 1", HEAD_LENGTH_ODD},
        {"1 ", HEAD_LENGTH_ODD},
        {"1x", HEAD_LENGTH_ODD},
        {"0x10", HEAD_LENGTH_ODD},
        {"1.0", HEAD_LENGTH_ODD},
        {"1,1", HEAD_LENGTH_ODD},
        {"/", HEAD_LENGTH_ODD},
        {":", HEAD_LENGTH_ODD},
    };
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        struct head head = head_with("POST", "CONTENT_LENGTH", rows[i].value);
        assert_true(head.content_length == rows[i].want);
        head_free(&head);
    }
    struct head none = head_with("POST", "HTTP_CONTENT_LENGTH", "3");
    assert_true(none.content_length == HEAD_LENGTH_NONE);
    head_free(&none);
}

static void methods_without_side_effects_are_known(void **state)
{
    static const struct {
        const char *method;
        int is_safe;
        int is_head;
    } rows[] = {
        {"GET", 1, 0},   {"HEAD", 1, 1},  {"OPTIONS", 1, 0}, {"POST", 0, 0},  {"PUT", 0, 0},
        {"PATCH", 0, 0}, {"TRACE", 0, 0}, {"DELETE", 0, 0},  {"", 0, 0},      {"get", 0, 0},
        {"head", 0, 0},  {"GETX", 0, 0},  {"GE", 0, 0},      {"HEADS", 0, 0}, {"HEA", 0, 0},
        {" GET", 0, 0},  {"GET ", 0, 0},  {"OPTION", 0, 0},  {"XEAD", 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        struct head head = head_with(rows[i].method, "A", "b");
        assert_int_equal(head.is_safe, rows[i].is_safe);
        assert_int_equal(head.is_head, rows[i].is_head);
        head_free(&head);
    }
}

static void the_last_of_a_name_counts(void **state)
{
    struct params params = {0};
    struct head head = {0};
    (void)state;
    for (int i = 0; i < 2; i++) {
        put(&params, "REQUEST_METHOD", i == 0 ? "GET" : "POST");
        put(&params, "REQUEST_URI", i == 0 ? "/first" : "/last");
        put(&params, "DEFERD_CLASS", i == 0 ? "first" : "last");
        put(&params, "CONTENT_LENGTH", i == 0 ? "0" : "7");
        if (i == 0) {
            fill(&params, 65500); /* the last ones come in another record */
        }
    }
    becomes_right(&params, (struct check_cuts){CHECK_WHOLE, 0, 0});
    assert_int_equal(add(&head, &params, params.len, (struct check_cuts){CHECK_WHOLE, 0, 0}), 0);
    assert_int_equal(head_end(&head, TOKEN), 0);
    assert_false(head.is_safe);
    assert_int_equal(head.content_length, 7);
    head_free(&head);
    /* An empty one counts as well. */
    put(&params, "CONTENT_LENGTH", "");
    put(&params, "DEFERD_CLASS", "");
    assert_int_equal(add(&head, &params, params.len, (struct check_cuts){CHECK_WHOLE, 0, 0}), 0);
    assert_int_equal(head_end(&head, TOKEN), 0);
    assert_int_equal(head.content_length, HEAD_LENGTH_NONE);
    assert_int_equal(head.class_name.len, 0);
    head_free(&head);
    params_free(&params);
}

/* --- what is kept ----------------------------------------------------------------------------- */

static void after_the_response_only_method_and_uri_are_kept(void **state)
{
    struct params params = {0};
    struct head head = {0};
    (void)state;
    put(&params, "DEFERD_CLASS", "reports");
    put(&params, "REQUEST_URI", "/a?b=c");
    put(&params, "REQUEST_METHOD", "DELETE");
    assert_int_equal(add(&head, &params, params.len, (struct check_cuts){CHECK_WHOLE, 0, 0}), 0);
    params_free(&params);
    assert_int_equal(head_end(&head, TOKEN), 0);
    const struct head before = head;
    head_shed(&head);
    assert_int_equal(head.method.len, 6);
    assert_memory_equal(head.method.data, "DELETE", 6);
    assert_int_equal(head.uri.len, 6);
    assert_memory_equal(head.uri.data, "/a?b=c", 6);
    assert_int_equal(head.class_name.len, 0);
    assert_null(head.class_name.data);
    assert_in_range(head.records.cap, 12, 16);
    assert_int_equal(head.done, before.done);
    assert_int_equal(head.is_safe, before.is_safe);
    head_free(&head);
}

static void of_a_long_uri_the_beginning_is_kept(void **state)
{
    static const size_t lengths[] = {0,    1, HEAD_URI_KEPT - 1, HEAD_URI_KEPT, HEAD_URI_KEPT + 1,
                                     60000};
    char *uri = malloc(60001);
    (void)state;
    assert_non_null(uri);
    for (size_t i = 0; i < 60000; i++) {
        uri[i] = (char)('a' + i % 23);
    }
    for (size_t i = 0; i < CHECK_COUNT(lengths); i++) {
        char kept = uri[lengths[i]];
        uri[lengths[i]] = '\0';
        struct head head = head_with("GET", "REQUEST_URI", uri);
        size_t want = lengths[i] < HEAD_URI_KEPT ? lengths[i] : HEAD_URI_KEPT;
        head_shed(&head);
        assert_int_equal(head.uri.len, want);
        assert_memory_equal(head.uri.data, uri, want);
        assert_memory_equal(head.method.data, "GET", 3);
        assert_in_range(head.records.cap, 1, HEAD_URI_KEPT + 32);
        head_free(&head);
        uri[lengths[i]] = kept;
    }
    free(uri);
}

static void of_a_long_method_the_beginning_is_kept(void **state)
{
    char method[20000];
    (void)state;
    memset(method, 'M', sizeof(method) - 1);
    method[sizeof(method) - 1] = '\0';
    struct head head = head_with(method, "REQUEST_URI", "/u");
    assert_int_equal(head.method.len, sizeof(method) - 1);
    head_shed(&head);
    assert_in_range(head.method.len, 16, 64);
    assert_memory_equal(head.method.data, method, head.method.len);
    assert_memory_equal(head.uri.data, "/u", 2);
    head_free(&head);
}

static void without_method_and_uri_nothing_is_kept(void **state)
{
    struct head head = {0};
    (void)state;
    assert_int_equal(head_end(&head, TOKEN), 0);
    head_shed(&head);
    assert_int_equal(head.method.len + head.uri.len, 0);
    head_free(&head);
    head_free(&head);
}

/* Where the pair of this name begins in the head's params records; NULL if there is none. */
static const uint8_t *find_pair(const struct head *head, const char *name)
{
    return memmem(head->records.data, head->records.len, name, strlen(name));
}

static void the_stop_path_follows_the_clients_params(void **state)
{
    static const char path[] = "/run/deferd/stop/1-0123456789abcdef";
    (void)state;
    for (size_t filler = 0; filler < 300; filler++) {
        struct params params = {0};
        struct params expected = {0};
        struct head head = {0};
        char *value = calloc(1, 65536);
        put(&params, "REQUEST_METHOD", "GET");
        put(&expected, "REQUEST_METHOD", "GET");
        /* Around the end of a record. */
        memset(value, 'x', 65200 + filler);
        put(&params, "A", value);
        put(&expected, "A", value);
        size_t room = 65535 - params.len;
        int fits = params.len <= 65535 && room >= 2 + strlen("DEFERD_STOP") + HEAD_STOP_MAX;
        if (fits) {
            put(&expected, "DEFERD_STOP", path);
        }
        head.stop = path;
        assert_int_equal(add(&head, &params, params.len, (struct check_cuts){CHECK_WHOLE, 0, 0}),
                         0);
        assert_int_equal(head_end(&head, TOKEN), 0);
        if (params.len <= 65535) {
            assert_null(naive_records(head.records.data, head.records.len, expected.bytes,
                                      expected.len, TOKEN));
        }
        if (params.len <= 65535) {
            assert_ptr_equal(head.stop, fits ? path : NULL);
        }
        head_free(&head);
        params_free(&params);
        params_free(&expected);
        free(value);
    }
}

static void a_stop_path_that_is_too_long_is_left_out(void **state)
{
    char path[HEAD_STOP_MAX + 2];
    struct params params = {0};
    (void)state;
    put(&params, "REQUEST_METHOD", "GET");
    memset(path, 'p', sizeof(path));
    for (size_t len = HEAD_STOP_MAX; len <= HEAD_STOP_MAX + 1; len++) {
        struct head head = {0};
        path[len] = '\0';
        head.stop = path;
        assert_int_equal(add(&head, &params, params.len, (struct check_cuts){CHECK_WHOLE, 0, 0}),
                         0);
        assert_int_equal(head_end(&head, TOKEN), 0);
        assert_int_equal(find_pair(&head, "DEFERD_STOP") != NULL, len <= HEAD_STOP_MAX);
        head_free(&head);
        if (len == HEAD_STOP_MAX) {
            path[len] = 'p';
        }
    }
    params_free(&params);
}

static void a_request_without_params_has_no_stop_path(void **state)
{
    struct head head = {.stop = "/stop/1"};
    (void)state;
    assert_int_equal(head_end(&head, TOKEN), 0);
    assert_null(find_pair(&head, "DEFERD_STOP"));
    assert_non_null(find_pair(&head, "DEFERD_TOKEN"));
    head_free(&head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(params_become_records_however_they_arrive),
        cmocka_unit_test(a_request_without_params_has_its_token),
        cmocka_unit_test(params_of_more_than_a_record_are_split_between_pairs),
        cmocka_unit_test(one_byte_more_than_a_record_takes_two),
        cmocka_unit_test(what_was_read_lies_in_the_split_records),
        cmocka_unit_test(many_pairs_fill_many_records),
        cmocka_unit_test(the_connection_is_kept_only_when_asked_to),
        cmocka_unit_test(more_params_than_allowed_are_refused),
        cmocka_unit_test(params_that_end_within_a_pair_are_refused),
        cmocka_unit_test(a_pair_that_no_record_can_hold_is_refused),
        cmocka_unit_test(the_content_length_is_a_number_or_odd_or_none),
        cmocka_unit_test(methods_without_side_effects_are_known),
        cmocka_unit_test(the_last_of_a_name_counts),
        cmocka_unit_test(after_the_response_only_method_and_uri_are_kept),
        cmocka_unit_test(of_a_long_uri_the_beginning_is_kept),
        cmocka_unit_test(of_a_long_method_the_beginning_is_kept),
        cmocka_unit_test(the_stop_path_follows_the_clients_params),
        cmocka_unit_test(a_stop_path_that_is_too_long_is_left_out),
        cmocka_unit_test(a_request_without_params_has_no_stop_path),
        cmocka_unit_test(without_method_and_uri_nothing_is_kept),
    };
    return cmocka_run_group_tests_name("head", tests, NULL, NULL);
}
