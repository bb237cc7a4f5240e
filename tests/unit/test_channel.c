/*
 * Lines between two processes: all arrive, whole and in order, however slowly they are read.
 */
#include "check.h"
#include "deferd/channel.h"
#include "deferd/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

/* What a channel got: the numbers in its lines, and whether the peer has gone. */
struct heard {
    unsigned count;
    unsigned last;
    int in_order;
    int ended;
};

static void heard_line(void *arg, char *line)
{
    struct heard *heard = arg;
    char expected[1200];
    unsigned number = (unsigned)strtoul(line, NULL, 10);
    snprintf(expected, sizeof(expected), "%u %01000d", number, 7);
    heard->in_order &= strcmp(line, expected) == 0 && (heard->count == 0 || number > heard->last);
    heard->last = number;
    heard->count++;
}

static void heard_end(void *arg)
{
    ((struct heard *)arg)->ended = 1;
}

struct pair {
    uv_loop_t loop;
    struct channel *from;
    int to; /* the other end's descriptor */
    struct heard heard;
};

static int pair_open(void **state)
{
    int fds[2];
    struct pair *pair = calloc(1, sizeof(*pair));
    const struct channel_events deaf = {heard_line, heard_end, &pair->heard};
    log_open(STDERR_FILENO, LOG_ALERT);
    pair->heard.in_order = 1;
    if (uv_loop_init(&pair->loop) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
        return -1;
    }
    pair->from = channel_open(&pair->loop, fds[0], &deaf);
    pair->to = fds[1];
    *state = pair;
    return pair->from != NULL ? 0 : -1;
}

static int pair_close(void **state)
{
    struct pair *pair = *state;
    channel_close(pair->from);
    uv_run(&pair->loop, UV_RUN_DEFAULT);
    uv_loop_close(&pair->loop);
    free(pair);
    return 0;
}

static void pair_send(struct pair *pair, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        channel_send(pair->from, "%u %01000d", i, 7);
    }
}

/* Lines that the kernel takes from one who does not read. */
static unsigned pair_kernel_takes(void)
{
    char line[1003] = {0};
    int fds[2];
    unsigned count = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    while (send(fds[0], line, sizeof(line), MSG_NOSIGNAL) > 0) {
        count++;
    }
    close(fds[0]);
    close(fds[1]);
    return count;
}

/* The other end reads now, until it has this many lines. */
static void pair_read(struct pair *pair, unsigned count)
{
    const struct channel_events events = {heard_line, heard_end, &pair->heard};
    struct channel *to = channel_open(&pair->loop, pair->to, &events);
    assert_non_null(to);
    pair->heard = (struct heard){.in_order = 1};
    while (pair->heard.count < count && !pair->heard.ended) {
        uv_run(&pair->loop, UV_RUN_ONCE);
    }
    channel_close(to);
}

static void lines_that_the_socket_does_not_take_arrive_later(void **state)
{
    struct pair *pair = *state;
    unsigned count = pair_kernel_takes() + 40;
    pair_send(pair, 0, count);
    pair_read(pair, count);
    assert_true(pair->heard.in_order);
    assert_int_equal(pair->heard.count, count);
    assert_int_equal(pair->heard.last, count - 1);
}

static void what_is_too_much_is_dropped_whole(void **state)
{
    struct pair *pair = *state;
    unsigned kernel = pair_kernel_takes();
    pair_send(pair, 0, kernel + 1000);
    /* About 64 lines wait; the peer reads them, and what is sent then follows whole. */
    const struct channel_events events = {heard_line, heard_end, &pair->heard};
    struct channel *to = channel_open(&pair->loop, pair->to, &events);
    assert_non_null(to);
    while (pair->heard.count < kernel + 30) {
        uv_run(&pair->loop, UV_RUN_ONCE);
    }
    pair_send(pair, 5000, 1);
    while (pair->heard.last != 5000) {
        uv_run(&pair->loop, UV_RUN_ONCE);
    }
    assert_true(pair->heard.in_order);
    assert_in_range(pair->heard.count, kernel + 31, kernel + 80);
    channel_close(to);
}

static void peer_that_is_gone_is_no_trouble(void **state)
{
    struct pair *pair = *state;
    pair_send(pair, 0, pair_kernel_takes() + 40);
    close(pair->to);
    while (!pair->heard.ended) {
        uv_run(&pair->loop, UV_RUN_ONCE);
    }
    pair_send(pair, 0, 1);
    assert_int_equal(pair->heard.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_that_the_socket_does_not_take_arrive_later, pair_open,
                                        pair_close),
        cmocka_unit_test_setup_teardown(what_is_too_much_is_dropped_whole, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(peer_that_is_gone_is_no_trouble, pair_open, pair_close),
    };
    signal(SIGPIPE, SIG_IGN);
    alarm(20); /* lines that do not come are waited for */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
