/*
 * Output collected for a stream: taken as a copy, and written to a socket.
 */
#include "check.h"
#include "deferd/stream.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

static void what_was_collected_is_taken_in_order(void **state)
{
    static const uint8_t expected[] = "before"
                                      "as it is"
                                      "\1\6\0\7\0\4\0\0body"
                                      "\1\7\1\2\0\0\0\0"
                                      "\1\3\0\7\0\10\0\0\1\2\3\4\1\0\0\0";
    struct gather gather;
    struct buf buf = {0};
    (void)state;
    assert_int_equal(buf_append(&buf, "before", 6), 0);
    gather_init(&gather, NULL);
    gather_bytes(&gather, "as it is", 8);
    gather_record(&gather, FCGI_STDOUT, 7, "body", 4);
    gather_record(&gather, FCGI_STDERR, 0x102, NULL, 0);
    gather_end_request(&gather, 7, 0x01020304, FCGI_CANT_MPX_CONN);
    assert_int_equal(gather_take(&gather, &buf), 0);
    assert_int_equal(buf.len, sizeof(expected) - 1);
    assert_memory_equal(buf.data, expected, buf.len);
    /* It is not collected any more. */
    assert_int_equal(gather_take(&gather, &buf), 0);
    assert_int_equal(buf.len, sizeof(expected) - 1);
    gather_bytes(&gather, "!", 1);
    assert_int_equal(gather_take(&gather, &buf), 0);
    assert_int_equal(buf.len, sizeof(expected));
    assert_int_equal(buf.data[buf.len - 1], '!');
    buf_free(&buf);
}

static void taking_nothing_takes_no_memory(void **state)
{
    struct gather gather;
    struct buf buf = {0};
    (void)state;
    gather_init(&gather, NULL);
    assert_int_equal(gather_take(&gather, &buf), 0);
    assert_null(buf.data);
}

/* A loop with a stream on one end of a socket pair; other is the other end. */
struct pair {
    uv_loop_t loop;
    struct stream stream;
    int other;
    int drained;
    int status;
};

static void pair_on_drained(struct stream *stream, int status)
{
    struct pair *pair = stream->io.handle.data;
    pair->drained++;
    pair->status = status;
}

static int pair_open(void **state)
{
    struct address address;
    char err[256];
    int fds[2];
    struct pair *pair = calloc(1, sizeof(*pair));
    assert_non_null(pair);
    assert_int_equal(address_parse(&address, "/x", err, sizeof(err)), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(uv_loop_init(&pair->loop), 0);
    assert_int_equal(stream_init(&pair->stream, &pair->loop, &address, pair, pair_on_drained), 0);
    assert_int_equal(uv_pipe_open(&pair->stream.io.pipe, fds[0]), 0);
    pair->other = fds[1];
    *state = pair;
    return 0;
}

static int pair_close(void **state)
{
    struct pair *pair = *state;
    uv_close(&pair->stream.io.handle, NULL);
    uv_run(&pair->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&pair->loop), 0);
    if (pair->other >= 0) {
        close(pair->other);
    }
    free(pair);
    return 0;
}

/* Reads what has come. Returns how much. */
static size_t pair_read(const struct pair *pair, uint8_t *out, size_t size)
{
    size_t have = 0;
    ssize_t n;
    while (have < size && (n = read(pair->other, out + have, size - have)) > 0) {
        have += (size_t)n;
    }
    return have;
}

enum kind { BYTES, RECORD, END, KINDS };

/* Collects one more, and adds to expected what is to be written for it. Returns its length. */
static size_t collect(struct gather *gather, enum kind kind, uint16_t id, const char *byte,
                      uint8_t *expected)
{
    switch (kind) {
    case BYTES:
        gather_bytes(gather, byte, 1);
        *expected = (uint8_t)*byte;
        return 1;
    case RECORD:
        gather_record(gather, FCGI_STDOUT, id, byte, 1);
        fcgi_put_header(expected, FCGI_STDOUT, id, 1, 0);
        expected[FCGI_HEADER_LEN] = (uint8_t)*byte;
        return FCGI_HEADER_LEN + 1;
    default:
        gather_end_request(gather, id, id, 0);
        fcgi_put_end(expected, id, id, 0);
        return FCGI_SHORT_RECORD;
    }
}

static void more_slices_than_fit_are_written_in_between_and_in_order(void **state)
{
    struct pair *pair = *state;
    uint8_t expected[4 * GATHER_BUFS * FCGI_SHORT_RECORD];
    uint8_t got[sizeof(expected) + 1];
    char text[4 * GATHER_BUFS];
    for (int way = 0; way <= KINDS; way++) { /* each kind alone, and all of them */
        struct gather gather;
        size_t len = 0;
        gather_init(&gather, &pair->stream);
        for (size_t i = 0; i < sizeof(text); i++) {
            text[i] = (char)(i * 7);
            enum kind kind = way < KINDS ? (enum kind)way : (enum kind)(i % KINDS);
            len += collect(&gather, kind, (uint16_t)i, &text[i], expected + len);
        }
        assert_int_equal(gather_flush(&gather), 0);
        assert_int_equal(gather_flush(&gather), 0); /* of nothing */
        assert_int_equal(pair_read(pair, got, sizeof(got)), len);
        assert_memory_equal(got, expected, len);
        assert_int_equal(pair->stream.pending, 0);
        assert_int_equal(pair->drained, 0);
    }
}

static void what_the_socket_does_not_take_is_written_later(void **state)
{
    struct pair *pair = *state;
    const size_t len = 4 << 20;
    uint8_t *data = malloc(len);
    uint8_t *got = malloc(len + 4);
    struct gather gather;
    size_t have = 0;
    assert_non_null(data);
    assert_non_null(got);
    for (size_t i = 0; i < len; i++) {
        data[i] = (uint8_t)(i * 31 >> 5);
    }
    gather_init(&gather, &pair->stream);
    gather_bytes(&gather, data, len);
    assert_int_equal(gather_flush(&gather), 0);
    assert_in_range(pair->stream.pending, 1, len - 1);
    gather_bytes(&gather, "tail", 4); /* behind it, though the socket could take it now */
    have = pair_read(pair, got, 4096);
    assert_int_equal(gather_flush(&gather), 0);
    uint8_t *copy = check_copy(data, len);
    memset(data, 0, len); /* nobody looks there any more */
    while (pair->stream.pending > 0) {
        assert_int_equal(pair->drained, 0);
        have += pair_read(pair, got + have, len + 4 - have);
        uv_run(&pair->loop, UV_RUN_NOWAIT);
    }
    have += pair_read(pair, got + have, len + 4 - have);
    assert_int_equal(have, len + 4);
    assert_memory_equal(got, copy, len);
    assert_memory_equal(got + len, "tail", 4);
    assert_int_equal(pair->drained, 1);
    assert_int_equal(pair->status, 0);
    free(data);
    free(copy);
    free(got);
}

static void after_an_error_nothing_more_is_written(void **state)
{
    struct pair *pair = *state;
    struct gather gather;
    uint8_t got;
    gather_init(&gather, &pair->stream);
    gather_bytes(&gather, "x", 1);
    gather.error = UV_ENOMEM; /* of a write before */
    assert_int_equal(gather_flush(&gather), UV_ENOMEM);
    gather.error = 0;
    assert_int_equal(gather_flush(&gather), 0);
    assert_int_equal(pair_read(pair, &got, 1), 0);
}

static void a_peer_that_is_gone_is_an_error_that_stays(void **state)
{
    struct pair *pair = *state;
    struct gather gather;
    close(pair->other);
    pair->other = -1;
    gather_init(&gather, &pair->stream);
    gather_bytes(&gather, "x", 1);
    assert_int_equal(gather_flush(&gather), UV_EPIPE);
    assert_int_equal(gather_flush(&gather), UV_EPIPE);
    gather_bytes(&gather, "y", 1);
    assert_int_equal(gather_flush(&gather), UV_EPIPE);
    gather_init(&gather, NULL); /* to nobody: dropped without an error */
    gather_bytes(&gather, "x", 1);
    assert_int_equal(gather_flush(&gather), 0);
}

#define pair_test(f) cmocka_unit_test_setup_teardown(f, pair_open, pair_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_collected_is_taken_in_order),
        cmocka_unit_test(taking_nothing_takes_no_memory),
        pair_test(more_slices_than_fit_are_written_in_between_and_in_order),
        pair_test(what_the_socket_does_not_take_is_written_later),
        pair_test(after_an_error_nothing_more_is_written),
        pair_test(a_peer_that_is_gone_is_an_error_that_stays),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
