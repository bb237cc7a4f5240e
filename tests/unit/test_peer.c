/*
 * What a worker that drains may say, in order or not, and what is made of it.
 */
#include "check.h"
#include "deferd/control.h"
#include "deferd/peer.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

/* A control whose peers have one stream; other is its other end. */
struct fixture {
    uv_loop_t loop;
    uv_timer_t alive; /* what peers are alone does not keep the loop */
    struct proxy proxy;
    struct control control;
    int other;
};

static struct fixture fix;

static void fixture_on_timer(uv_timer_t *timer)
{
    (void)timer;
}

static void fixture_open(void)
{
    int fds[2];
    fix = (struct fixture){.other = -1};
    assert_int_equal(uv_loop_init(&fix.loop), 0);
    uv_timer_init(&fix.loop, &fix.alive);
    uv_timer_start(&fix.alive, fixture_on_timer, 1000000, 0);
    fix.proxy.loop = &fix.loop;
    fix.proxy.scratch = malloc(PROXY_SCRATCH);
    fix.proxy.sharing = 1;
    fix.control.loop = &fix.loop;
    fix.control.proxy = &fix.proxy;
    fix.control.remembers = 1;
    peers_open(&fix.control.peers, &fix.control);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(peers_adopt(&fix.control.peers, fds[0]), 0);
    fix.other = fds[1];
}

static void fixture_close(void)
{
    peers_close(&fix.control.peers);
    uv_close((uv_handle_t *)&fix.alive, NULL);
    uv_run(&fix.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fix.loop), 0);
    history_free(&fix.control.history);
    free(fix.proxy.scratch);
    close(fix.other);
}

/* Returns when all was read; reading rests now and then. */
static void say(const char *text, size_t len)
{
    int unread = 0;
    while (len > 0 || unread > 0) {
        size_t part = len < 4096 ? len : 4096;
        if (part > 0 && unread == 0) {
            assert_int_equal(write(fix.other, text, part), part);
            text += part;
            len -= part;
        }
        uv_run(&fix.loop, UV_RUN_NOWAIT);
        assert_int_equal(ioctl(fix.other, SIOCOUTQ, &unread), 0);
    }
    uv_run(&fix.loop, UV_RUN_NOWAIT);
}

static void say_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say_line(const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line) - 1, format, args);
    va_end(args);
    strcat(line, "\n");
    say(line, strlen(line));
}

static void say_live(unsigned id, const char *uri)
{
    say_line("{\"live\":{\"id\":%u,\"pool\":\"www\",\"uri\":\"%s\",\"outcome\":null}}", id, uri);
}

static void end(void)
{
    shutdown(fix.other, SHUT_RDWR);
    while (fix.control.peers.count > 0) {
        uv_run(&fix.loop, UV_RUN_NOWAIT);
    }
}

static const struct phase *find(uint64_t id)
{
    struct peer *peer;
    struct peer_phase *found = peers_find(&fix.control.peers, id, &peer);
    return found != NULL ? found->phase : NULL;
}

static void phases_come_change_and_go(void **state)
{
    (void)state;
    fixture_open();
    say_live(7, "/first");
    say_live(8, "/second");
    say_live(7, "/changed");
    assert_string_equal(find(7)->uri, "/changed");
    assert_int_equal(peers_count_phases(&fix.control.peers, "www"), 2);
    assert_int_equal(peers_count_phases(&fix.control.peers, "other"), 0);
    say_line("{\"ended\":{\"id\":7,\"outcome\":\"completed\"}}");
    assert_null(find(7));
    assert_int_equal(history_find(&fix.control.history, 7)->outcome, OUTCOME_COMPLETED);
    say_line("{\"gone\":8}");
    assert_null(find(8));
    assert_null(history_find(&fix.control.history, 8));
    assert_int_equal(fix.control.peers.bytes, 0);
    end();
    assert_int_equal(fix.control.history.count, 1);
    fixture_close();
}

static void what_is_live_at_the_end_is_lost(void **state)
{
    (void)state;
    fixture_open();
    say_live(7, "/");
    end();
    assert_int_equal(history_find(&fix.control.history, 7)->outcome, OUTCOME_LOST);
    assert_int_equal(fix.control.peers.bytes, 0);
    fixture_close();
}

static void nothing_is_idle_before_all_have_told(void **state)
{
    (void)state;
    fixture_open();
    assert_false(peers_are_idle(&fix.control.peers, "www"));
    say_line("{\"worker\":{\"pid\":99,\"busy\":{\"www\":2,\"other\":0}}}");
    assert_false(peers_are_idle(&fix.control.peers, "www"));
    assert_true(peers_are_idle(&fix.control.peers, "other"));
    assert_int_equal(peer_busy(fix.control.peers.list), 2);
    fix.proxy.sharing = 2; /* one of them has said nothing yet */
    assert_false(peers_are_idle(&fix.control.peers, "other"));
    fix.proxy.sharing = 1;
    say_line("{\"worker\":{\"pid\":99,\"busy\":{\"www\":0,\"other\":0}}}");
    assert_true(peers_are_idle(&fix.control.peers, "www"));
    fixture_close();
}

static void garbage_between_lines_harms_none_of_them(void **state)
{
    static const char *const lines[] = {
        "",
        "nonsense",
        "{}",
        "[]",
        "7",
        "{\"live\":7}",
        "{\"live\":{\"id\":7,\"outcome\":\"completed\"}}",
        "{\"ended\":{\"id\":7,\"outcome\":null}}",
        "{\"ended\":{\"id\":7,\"outcome\":\"nonsense\"}}",
        "{\"gone\":\"x\"}",
        "{\"gone\":99}",
        "{\"stop\":7,\"error\":null}",
        "{\"stop\":{},\"error\":[]}",
        "{\"worker\":7}",
        "{\"worker\":{\"pid\":\"x\",\"busy\":7}}",
        "{\"worker\":{\"busy\":{\"www\":\"x\"}}}",
    };
    (void)state;
    fixture_open();
    for (size_t i = 0; i < CHECK_COUNT(lines); i++) {
        say_line("%s", lines[i]);
        assert_int_equal(peers_count_phases(&fix.control.peers, NULL), 0);
        assert_false(peers_are_idle(&fix.control.peers, "www"));
        peer_busy(fix.control.peers.list);
    }
    assert_int_equal(fix.control.history.count, 0);
    say_live(7, "/");
    assert_non_null(find(7));
    fixture_close();
}

static void a_line_without_an_end_takes_no_more_than_its_bound(void **state)
{
    static char piece[1 << 20];
    (void)state;
    memset(piece, 'x', sizeof(piece));
    fixture_open();
    for (int i = 0; i < 4; i++) {
        say(piece, sizeof(piece));
        assert_true(fix.control.peers.list->lines.cap <= sizeof(piece));
    }
    say("\n", 1);
    say_live(7, "/");
    assert_non_null(find(7));
    fixture_close();
}

static void phases_without_end_take_no_more_than_their_bound(void **state)
{
    static char uri[64 << 10];
    static char line[sizeof(uri) + 128];
    (void)state;
    memset(uri, 'x', sizeof(uri) - 1);
    fixture_open();
    for (unsigned id = 1; id <= 2 * PEERS_BYTES / sizeof(uri); id++) {
        int n = snprintf(line, sizeof(line),
                         "{\"live\":{\"id\":%u,\"uri\":\"%s\",\"outcome\":null}}\n", id, uri);
        say(line, (size_t)n);
        assert_true(fix.control.peers.bytes <= PEERS_BYTES);
    }
    assert_non_null(find(1));
    assert_null(find(2 * PEERS_BYTES / sizeof(uri)));
    fixture_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases_come_change_and_go),
        cmocka_unit_test(what_is_live_at_the_end_is_lost),
        cmocka_unit_test(nothing_is_idle_before_all_have_told),
        cmocka_unit_test(garbage_between_lines_harms_none_of_them),
        cmocka_unit_test(a_line_without_an_end_takes_no_more_than_its_bound),
        cmocka_unit_test(phases_without_end_take_no_more_than_their_bound),
    };
    return cmocka_run_group_tests_name("peer", tests, NULL, NULL);
}
