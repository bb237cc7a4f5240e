/*
 * Where a log's lines go: files and their owners, pipes and sockets that are slow or gone, syslog.
 */
#include "check.h"
#include "deferd/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char directory[] = "/tmp/deferd-sink-XXXXXX";
static struct sink sink;

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    sink = (struct sink){.to = {.fd = -1}};
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"log", "old", "link", "fifo", "syslog"};
    (void)state;
    sink_close(&sink);
    for (size_t i = 0; i < CHECK_COUNT(names); i++) {
        unlink(path_of(names[i]));
    }
    rmdir(directory);
    memcpy(directory + sizeof(directory) - 7, "XXXXXX", 6);
    return 0;
}

/* Returns 0 if there was no room. */
static int put(const char *line)
{
    char *room = sink_room(&sink);
    if (room == NULL) {
        return 0;
    }
    memcpy(room, line, strlen(line));
    sink_put(&sink, strlen(line));
    return 1;
}

static void holds(const char *name, const char *expected)
{
    char text[256];
    int fd = open(path_of(name), O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    close(fd);
    assert_string_equal(text, expected);
}

static void open_log(void)
{
    assert_int_equal(sink_open(&sink, path_of("log"), (uid_t)-1, (gid_t)-1), 0);
}

static void a_file_is_made_and_added_to(void **state)
{
    struct stat st;
    mode_t old = umask(022);
    (void)state;
    open_log();
    umask(old);
    assert_int_equal(stat(path_of("log"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    put("one\n");
    assert_int_equal(sink_flush(&sink), 0);
    put("two\n");
    sink_close(&sink);
    holds("log", "one\ntwo\n");
    open_log();
    put("three\n");
    sink_close(&sink);
    holds("log", "one\ntwo\nthree\n");
}

static void a_moved_file_is_made_again(void **state)
{
    char old[128];
    (void)state;
    open_log();
    put("one\n");
    snprintf(old, sizeof(old), "%s", path_of("old"));
    assert_int_equal(rename(path_of("log"), old), 0);
    put("two\n");
    assert_int_equal(sink_reopen(&sink), 0);
    put("three\n");
    sink_flush(&sink);
    holds("old", "one\ntwo\n");
    holds("log", "three\n");
}

static void what_cannot_be_opened_changes_nothing(void **state)
{
    char longer[300];
    (void)state;
    open_log();
    put("one\n");
    assert_int_equal(sink_open(&sink, path_of("no/such"), (uid_t)-1, (gid_t)-1), -ENOENT);
    assert_int_equal(sink_open(&sink, directory, (uid_t)-1, (gid_t)-1), -EISDIR);
    memset(longer, 'x', sizeof(longer));
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(sink_open(&sink, longer, (uid_t)-1, (gid_t)-1), -ENAMETOOLONG);
    assert_int_equal(sink_open_syslog(&sink, longer), -ENAMETOOLONG);
    put("two\n");
    sink_flush(&sink);
    holds("log", "one\ntwo\n");
}

static void a_file_gets_its_owner_but_none_behind_a_link(void **state)
{
    struct stat st;
    char target[128];
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(sink_open(&sink, path_of("log"), 12345, 54321), 0);
    assert_int_equal(stat(path_of("log"), &st), 0);
    assert_int_equal(st.st_uid, 12345);
    assert_int_equal(st.st_gid, 54321);
    assert_int_equal(sink_make_file(path_of("log"), 1, 2), 0);
    assert_int_equal(stat(path_of("log"), &st), 0);
    assert_int_equal(st.st_uid, 1);
    snprintf(target, sizeof(target), "%s", path_of("log"));
    assert_int_equal(symlink(target, path_of("link")), 0);
    assert_int_equal(sink_make_file(path_of("link"), 3, 4), 0);
    assert_int_equal(stat(path_of("log"), &st), 0);
    assert_int_equal(st.st_uid, 1);
    unlink(path_of("link"));
    assert_int_equal(link(target, path_of("link")), 0);
    assert_int_equal(sink_make_file(path_of("link"), 3, 4), 0);
    assert_int_equal(stat(path_of("log"), &st), 0);
    assert_int_equal(st.st_uid, 1);
}

static void what_is_no_file_keeps_its_owner(void **state)
{
    struct stat st;
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    int reader = open(path_of("fifo"), O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_int_equal(sink_open(&sink, path_of("fifo"), 12345, 54321), 0);
    assert_int_equal(stat(path_of("fifo"), &st), 0);
    assert_int_equal(st.st_uid, 0);
    close(reader);
}

static void a_full_disk_counts_what_is_lost(void **state)
{
    (void)state;
    assert_int_equal(sink_open(&sink, "/dev/full", (uid_t)-1, (gid_t)-1), 0);
    put("one\n");
    put("two\n");
    assert_int_equal(sink_flush(&sink), 0);
    assert_int_equal(sink_dropped(&sink), 0); /* there may be more */
    put("three\n");
    open_log(); /* flushes */
    put("four\n");
    sink_flush(&sink);
    assert_int_equal(sink_dropped(&sink), 3);
    assert_int_equal(sink_dropped(&sink), 0);
    holds("log", "four\n");
}

/* The size that files may have; beyond it a write is cut, then refused, as on a full disk. */
static void limit(rlim_t bytes)
{
    struct rlimit rlimit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &rlimit), 0);
    rlimit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &rlimit), 0);
}

/* One line in pieces, which counts as lost, however often it is tried to end it. */
static void tear(void)
{
    open_log();
    limit(12);
    put("one\n");
    put("two\n");
    put("three, torn\n");
    put("four, lost\n");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sink_flush(&sink), 0);
        holds("log", "one\ntwo\nthre");
    }
    put("five, lost\n");
    assert_int_equal(sink_flush(&sink), 0);
    assert_int_equal(sink_dropped(&sink), 0); /* there may be more */
    limit(RLIM_INFINITY);
}

static void a_torn_line_spoils_no_other(void **state)
{
    (void)state;
    tear();
    put("six\n");
    assert_int_equal(sink_flush(&sink), 0);
    holds("log", "one\ntwo\nthre\nsix\n");
    assert_int_equal(sink_dropped(&sink), 3);
}

static void a_torn_line_is_not_ended_in_another_file(void **state)
{
    char old[128];
    (void)state;
    tear();
    snprintf(old, sizeof(old), "%s", path_of("old"));
    assert_int_equal(rename(path_of("log"), old), 0);
    limit(12);
    assert_int_equal(sink_reopen(&sink), 0);
    limit(RLIM_INFINITY);
    put("six\n");
    assert_int_equal(sink_flush(&sink), 0);
    holds("log", "six\n");
    assert_int_equal(sink_dropped(&sink), 3);
}

/* Puts until there is no room. Returns how many lines found some. */
static unsigned fill(void)
{
    static const char line[] = "a line of a log that somebody does not read, of a certain length\n";
    unsigned lines = 0;
    while (put(line)) {
        lines++;
        assert_true(lines < 1000000);
    }
    return lines;
}

static size_t drain(int fd, char *text, size_t size)
{
    size_t len = 0;
    ssize_t n;
    while ((n = recv(fd, text + len, size - len, MSG_DONTWAIT)) > 0 ||
           (n < 0 && errno == ENOTSOCK && (n = read(fd, text + len, size - len)) > 0)) {
        len += (size_t)n;
    }
    return len;
}

static size_t lines_in(const char *text, size_t len)
{
    size_t lines = 0;
    for (size_t i = 0; i < len; i++) {
        lines += text[i] == '\n';
    }
    return lines;
}

/* Fills, reads, and finds each line that found room, and the number of the others. */
static void is_bounded_and_complete(int reader)
{
    static char text[4 << 20];
    alarm(20); /* a write that blocks would do so for ever */
    unsigned lines = fill();
    assert_int_equal(put("x\n"), 0);
    assert_int_equal(sink_dropped(&sink), 0); /* there may be more */
    size_t len = drain(reader, text, sizeof(text));
    while (sink_flush(&sink) > 0) {
        len += drain(reader, text + len, sizeof(text) - len);
    }
    len += drain(reader, text + len, sizeof(text) - len);
    alarm(0);
    assert_int_equal(lines_in(text, len), lines);
    assert_int_equal(text[len - 1], '\n');
    assert_int_equal(sink_dropped(&sink), 2);
}

static void a_pipe_is_never_waited_for(void **state)
{
    int fds[2];
    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    sink_use(&sink, fds[1]);
    is_bounded_and_complete(fds[0]);
    assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0); /* for others it stays as it was */
    close(fds[0]);
    close(fds[1]);
}

static void a_pipe_that_cannot_be_opened_anew_is_not_either(void **state)
{
    int fds[2];
    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    sink_use(&sink, fds[1]);
    close(sink.to.fd);
    sink.to.fd = fds[1];
    sink.to.owned = 0;
    sink.to.kind = SINK_BLOCKING;
    is_bounded_and_complete(fds[0]);
    close(fds[0]);
    close(fds[1]);
}

static void a_socket_is_never_waited_for(void **state)
{
    int fds[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    sink_use(&sink, fds[1]);
    assert_int_equal(sink.to.kind, SINK_STREAM);
    is_bounded_and_complete(fds[0]);
    close(fds[0]);
    close(fds[1]);
}

static void a_fifo_without_a_reader_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    alarm(20);
    assert_int_equal(sink_open(&sink, path_of("fifo"), (uid_t)-1, (gid_t)-1), -ENXIO);
    alarm(0);
}

static int listen_syslog(void)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%.100s", path_of("syslog"));
    assert_int_equal(bind(fd, (const struct sockaddr *)&sun, sizeof(sun)), 0);
    return fd;
}

static void hears(int fd, const char *expected)
{
    char text[256];
    ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    assert_true(n >= 0);
    text[n] = '\0';
    assert_string_equal(text, expected);
}

static void syslog_gets_a_datagram_a_line(void **state)
{
    int fd = listen_syslog();
    (void)state;
    assert_int_equal(sink_open_syslog(&sink, path_of("syslog")), 0);
    put("one\n");
    put("two\n");
    assert_int_equal(sink_flush(&sink), 0);
    hears(fd, "one");
    hears(fd, "two");
    close(fd);
}

static void syslog_may_come_and_go(void **state)
{
    (void)state;
    assert_int_equal(sink_open_syslog(&sink, path_of("syslog")), 0);
    put("zero\n");
    assert_int_equal(sink_flush(&sink), 0);
    int fd = listen_syslog();
    put("one\n");
    assert_int_equal(sink_flush(&sink), 0);
    hears(fd, "one");
    assert_int_equal(sink_dropped(&sink), 1);
    close(fd);
    unlink(path_of("syslog"));
    fd = listen_syslog();
    put("two\n");
    assert_int_equal(sink_flush(&sink), 0);
    hears(fd, "two");
    close(fd);
}

static void syslog_is_never_waited_for(void **state)
{
    int fd = listen_syslog();
    unsigned heard = 0;
    char text[256];
    (void)state;
    assert_int_equal(sink_open_syslog(&sink, path_of("syslog")), 0);
    alarm(20);
    unsigned lines = fill();
    do {
        while (recv(fd, text, sizeof(text), MSG_DONTWAIT) > 0) {
            heard++;
        }
    } while (sink_flush(&sink) > 0);
    while (recv(fd, text, sizeof(text), MSG_DONTWAIT) > 0) {
        heard++;
    }
    alarm(0);
    assert_int_equal(heard, lines);
    assert_int_equal(sink_dropped(&sink), 1);
    close(fd);
}

#define SINK_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(a_file_is_made_and_added_to),
        SINK_TEST(a_moved_file_is_made_again),
        SINK_TEST(what_cannot_be_opened_changes_nothing),
        SINK_TEST(a_file_gets_its_owner_but_none_behind_a_link),
        SINK_TEST(what_is_no_file_keeps_its_owner),
        SINK_TEST(a_full_disk_counts_what_is_lost),
        SINK_TEST(a_torn_line_spoils_no_other),
        SINK_TEST(a_torn_line_is_not_ended_in_another_file),
        SINK_TEST(a_pipe_is_never_waited_for),
        SINK_TEST(a_pipe_that_cannot_be_opened_anew_is_not_either),
        SINK_TEST(a_socket_is_never_waited_for),
        SINK_TEST(a_fifo_without_a_reader_is_refused),
        SINK_TEST(syslog_gets_a_datagram_a_line),
        SINK_TEST(syslog_may_come_and_go),
        SINK_TEST(syslog_is_never_waited_for),
    };
    return cmocka_run_group_tests_name("sink", tests, NULL, NULL);
}
