/*
 * Allocation failures: the modules that allocate, built once more with an allocator that gives only
 * so many times, and run with every number of times.
 */
#include "check.h"
#include "naive.h"

#include <jansson.h>
#include <stdio.h>
#include <uv.h>

static size_t allocations_left;

static int scarce(void)
{
    if (allocations_left == 0) {
        return 1;
    }
    allocations_left--;
    return 0;
}

static void *scarce_malloc(size_t size)
{
    return scarce() ? NULL : malloc(size);
}

static void *scarce_realloc(void *old, size_t size)
{
    return scarce() ? NULL : realloc(old, size);
}

static void *scarce_calloc(size_t count, size_t size)
{
    return scarce() ? NULL : calloc(count, size);
}

#define malloc  scarce_malloc
#define realloc scarce_realloc
#define calloc  scarce_calloc

/* The linked modules keep their names. */
#define buf_reserve         scarce_buf_reserve
#define buf_append          scarce_buf_append
#define buf_free            scarce_buf_free
#define lines_next          scarce_lines_next
#define lines_last          scarce_lines_last
#define lines_free          scarce_lines_free
#define deferral_feed       scarce_deferral_feed
#define deferral_end        scarce_deferral_end
#define deferral_outcome    scarce_deferral_outcome
#define deferral_names      scarce_deferral_names
#define deferral_unfinished scarce_deferral_unfinished
#define deferral_free       scarce_deferral_free
#define head_add            scarce_head_add
#define head_end            scarce_head_end
#define head_keep_conn      scarce_head_keep_conn
#define head_shed           scarce_head_shed
#define head_next_param     scarce_head_next_param
#define head_free           scarce_head_free
#define share_of            scarce_share_of
#define queue_open          scarce_queue_open
#define queue_class         scarce_queue_class
#define queue_push          scarce_queue_push
#define queue_remove        scarce_queue_remove
#define queue_next          scarce_queue_next
#define queue_oldest        scarce_queue_oldest
#define queue_free          scarce_queue_free
#define stream_init         scarce_stream_init
#define stream_write        scarce_stream_write
#define stream_shutdown     scarce_stream_shutdown
#define gather_init         scarce_gather_init
#define gather_bytes        scarce_gather_bytes
#define gather_record       scarce_gather_record
#define gather_end_request  scarce_gather_end_request
#define gather_take         scarce_gather_take
#define gather_flush        scarce_gather_flush

#include "../../src/base/buf.c"
#include "../../src/proxy/deferral.c"
#include "../../src/proxy/head.c"
#include "../../src/proxy/queue.c"
#include "../../src/proxy/stream.c"
#include "../../src/wire/lines.c"

static void a_buffer_that_cannot_grow_is_unchanged(void **state)
{
    (void)state;
    for (size_t most = 0; most < 12; most++) {
        struct buf buf = {0};
        int rc = 0;
        size_t before = 0;
        allocations_left = most;
        while (rc == 0) {
            before = buf.len;
            rc = buf_append(&buf, "0123456789", 10);
        }
        assert_int_equal(rc, UV_ENOMEM);
        assert_int_equal(buf.len, before);
        assert_true(most > 0 || buf.data == NULL);
        for (size_t i = 0; i < buf.len; i++) {
            assert_int_equal(buf.data[i], '0' + i % 10);
        }
        allocations_left = 1;
        assert_int_equal(buf_append(&buf, "0123456789", 10), 0);
        assert_int_equal(buf.len, before + 10);
        buf_free(&buf);
    }
}

/* Feeds all of text in pieces of n bytes; writes down what came as in "Lone|X|". */
static void feed_lines(struct lines *lines, const char *text, size_t n, char *out)
{
    size_t len = strlen(text);
    struct lines_event ev;
    for (size_t from = 0; from < len; from += n) {
        size_t at = from;
        size_t end = from + n < len ? from + n : len;
        while (at < end) {
            at += lines_next(lines, (const uint8_t *)text + at, end - at, 4096, &ev);
            if (ev.kind == LINES_LINE) {
                out += sprintf(out, "L%.*s|", (int)ev.len, ev.data);
            } else if (ev.kind == LINES_LONG) {
                out += sprintf(out, "X|");
            }
        }
    }
}

static void a_line_that_cannot_be_held_is_as_if_too_long(void **state)
{
    struct lines lines = {0};
    char out[128] = "";
    (void)state;
    allocations_left = 0;
    feed_lines(&lines, "one\ntwo\nthree\n", 5, out); /* "one\nt", "wo\nth", "ree\n" */
    assert_string_equal(out, "Lone|X|X|");
    assert_null(lines.held);
    allocations_left = 1;
    feed_lines(&lines, "one\ntwo\nthree\n", 5, out);
    assert_string_equal(out, "Lone|Ltwo|X|");
    allocations_left = 100;
    feed_lines(&lines, "one\ntwo\nthree\n", 5, out);
    assert_string_equal(out, "Lone|Ltwo|Lthree|");
    lines_free(&lines);
}

static void a_line_that_cannot_be_held_further_is_as_if_too_long(void **state)
{
    char text[1024];
    char out[2048] = "";
    struct lines lines = {0};
    (void)state;
    memset(text, 'x', sizeof(text));
    memcpy(text + 600, "\nnext\n", 7);
    allocations_left = 1; /* holds 256 bytes, and no more */
    feed_lines(&lines, text, 100, out);
    assert_string_equal(out, "X|Lnext|");
    lines_free(&lines);
}

static void ignore_stray(void *arg, const char *line, size_t len)
{
    (void)arg;
    (void)line;
    (void)len;
}

static void ignore_failed(void *arg, const char *task, const char *error)
{
    (void)arg;
    (void)task;
    (void)error;
}

static void feed(struct deferral *deferral, const char *text)
{
    static const struct deferral_events events = {ignore_stray, ignore_failed, NULL, 0};
    deferral_feed(deferral, (const uint8_t *)text, strlen(text), &events);
}

static void tasks_without_memory_for_their_names_are_still_counted(void **state)
{
    (void)state;
    for (size_t most = 0; most < 20; most++) {
        struct deferral deferral = {0};
        char line[64];
        char names[64];
        allocations_left = most;
        feed(&deferral, "{\"event\":\"begin\",\"tasks\":[\"0\",\"1\",\"2\",\"3\",\"4\"]}\n");
        assert_int_equal(deferral.total, 5);
        assert_int_equal(deferral_unfinished(&deferral, names, sizeof(names)), 5);
        assert_memory_equal(names, "0, 1, 2, 3, 4", strlen(names));
        assert_int_equal(strlen(names), deferral.named > 0 ? 3 * deferral.named - 2 : 0);
        assert_int_equal(deferral.named == 5, most >= 5 + 4); /* the array grows four times */
        size_t named = deferral.named;
        allocations_left = 100; /* a name that came now could be of another index */
        feed(&deferral, "{\"event\":\"add\",\"tasks\":[\"5\"]}\n");
        assert_int_equal(deferral.named, named < 5 ? named : 6);
        for (int i = 0; i < 6; i++) {
            snprintf(line, sizeof(line), "{\"event\":\"done\",\"task\":%d}\n", i);
            feed(&deferral, line);
            assert_int_equal(deferral.done, i + 1);
        }
        assert_int_equal(deferral_unfinished(&deferral, names, sizeof(names)), 0);
        deferral_free(&deferral);
    }
}

#define TOKEN "0123456789abcdef0123456789abcdef"

/* Adds pairs of together more than one record takes, none of which deferd reads. */
static int add_much(struct head *head)
{
    uint8_t pair[2 + 127 + 127] = {127, 127};
    int rc = 0;
    for (int i = 0; rc == 0 && i < 300; i++) {
        rc = head_add(head, pair, sizeof(pair), SIZE_MAX);
    }
    return rc;
}

static void a_head_without_memory_says_so(void **state)
{
    size_t added = 0; /* how often it failed there */
    size_t split = 0;
    int rc = UV_ENOMEM;
    (void)state;
    for (size_t most = 0; rc != 0; most++) {
        struct head head = {0};
        allocations_left = most;
        rc = add_much(&head);
        added += rc != 0;
        if (rc == 0) {
            rc = head_end(&head, TOKEN);
            split += rc != 0;
        }
        assert_int_equal(rc, most < added + split ? UV_ENOMEM : 0);
        assert_int_equal(head.done, rc == 0);
        head_free(&head);
    }
    assert_in_range(added, 2, 20); /* at first, and as it grows */
    assert_in_range(split, 1, 20);
}

static void params_that_cannot_be_added_change_nothing(void **state)
{
    static const uint8_t method[] = "\16\4REQUEST_METHODHEAD";
    static const uint8_t more[900]; /* pairs of nothing */
    struct head head = {0};
    (void)state;
    allocations_left = 0;
    assert_int_equal(head_end(&head, TOKEN), UV_ENOMEM);
    assert_int_equal(head_add(&head, method, sizeof(method) - 1, 1000), UV_ENOMEM);
    allocations_left = 1;
    assert_int_equal(head_add(&head, method, sizeof(method) - 1, 1000), 0);
    assert_int_equal(head_add(&head, more, sizeof(more), 1000), UV_ENOMEM);
    allocations_left = 1;
    assert_int_equal(head_add(&head, more, sizeof(more), 1000), 0);
    assert_int_equal(head_end(&head, TOKEN), UV_ENOMEM);
    allocations_left = 1;
    assert_int_equal(head_end(&head, TOKEN), 0);
    assert_true(head.is_head);
    assert_null(naive_records(head.records.data, head.records.len, head.records.data + 24,
                              sizeof(method) - 1 + sizeof(more), TOKEN));
    head_free(&head);
}

static void a_head_that_cannot_be_shed_is_kept(void **state)
{
    static const uint8_t method[] = "\16\4REQUEST_METHODHEAD";
    struct head head = {0};
    (void)state;
    allocations_left = 1;
    assert_int_equal(head_add(&head, method, sizeof(method) - 1, 1000), 0);
    assert_int_equal(head_end(&head, TOKEN), 0);
    const struct head before = head;
    assert_int_equal(allocations_left, 0);
    head_shed(&head);
    assert_ptr_equal(head.records.data, before.records.data);
    assert_ptr_equal(head.method.data, before.method.data);
    assert_memory_equal(head.method.data, "HEAD", 4);
    allocations_left = 1;
    head_shed(&head);
    assert_memory_equal(head.method.data, "HEAD", 4);
    head_free(&head);
}

static void a_queue_without_memory_says_so(void **state)
{
    static const struct class_options options[] = {{"default", {100, 1}, 0, 1}};
    struct queue queue;
    (void)state;
    allocations_left = 0;
    assert_int_equal(queue_open(&queue, options, 1, 1), UV_ENOMEM);
    queue_free(&queue);
    allocations_left = 1;
    assert_int_equal(queue_open(&queue, options, 1, 1), 0);
    queue_free(&queue);
}

static void what_cannot_be_taken_stays_collected(void **state)
{
    struct gather gather;
    struct buf buf = {0};
    (void)state;
    allocations_left = 1;
    assert_int_equal(buf_append(&buf, "here", 4), 0);
    gather_init(&gather, NULL);
    gather_bytes(&gather, " and there", 10);
    assert_int_equal(gather_take(&gather, &buf), UV_ENOMEM);
    assert_int_equal(buf.len, 4);
    assert_memory_equal(buf.data, "here", 4);
    allocations_left = 1;
    assert_int_equal(gather_take(&gather, &buf), 0);
    assert_int_equal(buf.len, 14);
    assert_memory_equal(buf.data, "here and there", 14);
    buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_that_cannot_grow_is_unchanged),
        cmocka_unit_test(a_line_that_cannot_be_held_is_as_if_too_long),
        cmocka_unit_test(a_line_that_cannot_be_held_further_is_as_if_too_long),
        cmocka_unit_test(tasks_without_memory_for_their_names_are_still_counted),
        cmocka_unit_test(a_head_without_memory_says_so),
        cmocka_unit_test(params_that_cannot_be_added_change_nothing),
        cmocka_unit_test(a_head_that_cannot_be_shed_is_kept),
        cmocka_unit_test(a_queue_without_memory_says_so),
        cmocka_unit_test(what_cannot_be_taken_stays_collected),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
