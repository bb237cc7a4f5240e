/*
 * Addresses as they are written, and the sockets bound to them: never in the place of something
 * that is in use, and never open to more than was asked.
 */
#include "check.h"
#include "deferd/address.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATH_LONGEST (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

static char folder[64];    /* a new one for each test */
static char socket_at[96]; /* a path in it */
static char err[512];

static mode_t mode_before_chmod; /* of the file, when its mode was last set */
static int chmod_fails;

/* Stands in front of libc's. */
int chmod(const char *path, mode_t mode)
{
    struct stat st;
    if (lstat(path, &st) == 0) {
        mode_before_chmod = st.st_mode & 07777;
    }
    if (chmod_fails) {
        errno = EPERM;
        return -1;
    }
    return fchmodat(AT_FDCWD, path, mode, 0);
}

static int make_folder(void **state)
{
    (void)state;
    chmod_fails = 0;
    snprintf(folder, sizeof(folder), "/tmp/deferd-unit-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(socket_at, sizeof(socket_at), "%s/s", folder);
    memset(err, 0, sizeof(err));
    return 0;
}

/* With all that a failed test may have left in it. */
static int remove_folder(void **state)
{
    const struct dirent *entry;
    DIR *dir = opendir(folder);
    (void)state;
    if (dir == NULL) {
        return -1;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (unlinkat(dirfd(dir), entry->d_name, 0) != 0) {
            unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
        }
    }
    closedir(dir);
    return rmdir(folder);
}

static struct address parsed(const char *text)
{
    struct address address;
    if (address_parse(&address, text, err, sizeof(err)) != 0) {
        fail_msg("refused: %s: %s", text, err);
    }
    return address;
}

static struct listener bound(const char *text, mode_t mode)
{
    struct listener listener;
    struct address address = parsed(text);
    if (address_bind(&listener, &address, mode, err, sizeof(err)) != 0) {
        fail_msg("%s", err);
    }
    assert_true(listener.fd >= 0);
    return listener;
}

/* The bind fails, and the sentence in err names the address and what is wrong. */
static void refuses_to_bind(const char *text, const char *why)
{
    struct listener listener;
    struct address address = parsed(text);
    err[0] = '\0';
    assert_int_equal(address_bind(&listener, &address, 0600, err, sizeof(err)), -1);
    assert_int_equal(listener.fd, -1);
    if (strstr(err, address.text) == NULL || strstr(err, why) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err, why);
    }
    address_unlink(&listener); /* has nothing to remove */
}

static int connects(const struct address *address)
{
    int fd = socket(address->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    int rc = connect(fd, (const struct sockaddr *)&address->sa, address->len);
    int ok = rc == 0 || errno == EINPROGRESS;
    close(fd);
    return ok;
}

static void name_that_was_looked_up_is_handed_on_with_its_numbers(void **state)
{
    static const struct {
        const char *text;
        const char *name;
        const char *numbers;
    } rows[] = {
        {"no.such.host.invalid:80=192.0.2.1:80", "no.such.host.invalid:80", "192.0.2.1:80"},
        {"no.such.host.invalid:0=[2001:db8::1]:0", "no.such.host.invalid:0", "[2001:db8::1]:0"},
    };
    static const char *const plain[] = {"192.0.2.1:80", "[2001:db8::1]:80", "/run/x=1:2", ""};
    static const char *const wrong[] = {"h:1=h:1", "h:1=", "=192.0.2.1:80", "h=192.0.2.1:80",
                                        "h:1=192.0.2.1:80=192.0.2.1:80"};
    char text[2 * ADDRESS_TEXT_MAX];
    struct address address = {0};
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        address = parsed(rows[i].text);
        struct address numbers = parsed(rows[i].numbers);
        assert_string_equal(address.text, rows[i].name);
        assert_int_equal(address.len, numbers.len);
        assert_memory_equal(&address.sa, &numbers.sa, numbers.len);
        address_print_resolved(&address, text, sizeof(text));
        assert_string_equal(text, rows[i].text);
    }
    for (size_t i = 0; i < CHECK_COUNT(plain); i++) {
        address = plain[i][0] != '\0' ? parsed(plain[i]) : (struct address){0};
        address_print_resolved(&address, text, sizeof(text));
        assert_string_equal(text, address.text);
    }
    for (size_t i = 0; i < CHECK_COUNT(wrong); i++) {
        assert_int_equal(address_parse(&address, wrong[i], err, sizeof(err)), -1);
        assert_non_null(strstr(err, "allowed is "));
    }
}

static void paths_are_unix_addresses(void **state)
{
    static const struct {
        const char *text;
        const char *path;
    } rows[] = {
        {"/run/deferd.sock", "/run/deferd.sock"},
        {"unix:/run/deferd.sock", "/run/deferd.sock"},
        {"unix:deferd.sock", "deferd.sock"},
        {"./deferd.sock", "./deferd.sock"},
        {"run/deferd:80", "run/deferd:80"},
        {"unix:127.0.0.1:9000", "127.0.0.1:9000"},
        {"unix:unix:x", "unix:x"},
        {"/", "/"},
    };
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        struct address address = parsed(rows[i].text);
        const struct sockaddr_un *sun = (const struct sockaddr_un *)&address.sa;
        char text[ADDRESS_TEXT_MAX];
        snprintf(text, sizeof(text), "unix:%s", rows[i].path);
        assert_true(address_is_unix(&address));
        assert_int_equal(sun->sun_family, AF_UNIX);
        assert_string_equal(sun->sun_path, rows[i].path);
        assert_string_equal(address.text, text);
        assert_in_range(address.len, offsetof(struct sockaddr_un, sun_path) + strlen(rows[i].path),
                        sizeof(*sun));
    }
}

static void a_path_has_1_to_107_bytes(void **state)
{
    char text[5 + 400];
    struct address address;
    (void)state;
    assert_int_equal(PATH_LONGEST, 107);
    assert_int_equal(address_parse(&address, "unix:", err, sizeof(err)), -1);
    assert_non_null(strstr(err, "107"));
    memcpy(text, "unix:", 5);
    for (size_t len = 1; len < 400; len++) {
        memset(text + 5, 'p', len);
        text[5] = '/';
        text[5 + len] = '\0';
        for (size_t from = 0; from <= 5; from += 5) { /* with unix: and without */
            err[0] = '\0';
            int rc = address_parse(&address, text + from, err, sizeof(err));
            assert_int_equal(rc, len <= PATH_LONGEST ? 0 : -1);
            assert_true((rc == 0) == (err[0] == '\0'));
            if (rc == 0) {
                assert_string_equal(((struct sockaddr_un *)&address.sa)->sun_path, text + 5);
            }
        }
    }
}

static void hosts_and_ports_are_internet_addresses(void **state)
{
    static const struct {
        const char *text;
        int family;
        const char *host;
        unsigned port;
    } rows[] = {
        {"127.0.0.1:9000", AF_INET, "127.0.0.1", 9000},
        {"0.0.0.0:0", AF_INET, "0.0.0.0", 0},
        {"10.1.2.3:65535", AF_INET, "10.1.2.3", 65535},
        {"[::1]:9000", AF_INET6, "::1", 9000},
        {"[::]:1", AF_INET6, "::", 1},
        {"[2001:db8::1:2]:443", AF_INET6, "2001:db8::1:2", 443},
        {"[::ffff:1.2.3.4]:80", AF_INET6, "::ffff:1.2.3.4", 80},
    };
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
        struct address address = parsed(rows[i].text);
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address.sa;
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address.sa;
        char host[INET6_ADDRSTRLEN];
        int v4 = rows[i].family == AF_INET;
        assert_int_equal(address.sa.ss_family, rows[i].family);
        assert_int_equal(address.len, v4 ? sizeof(*in) : sizeof(*in6));
        assert_non_null(inet_ntop(rows[i].family,
                                  v4 ? (const void *)&in->sin_addr : (const void *)&in6->sin6_addr,
                                  host, sizeof(host)));
        assert_string_equal(host, rows[i].host);
        assert_int_equal(ntohs(v4 ? in->sin_port : in6->sin6_port), rows[i].port);
        assert_string_equal(address.text, rows[i].text);
        assert_false(address_is_unix(&address));
    }
}

static void a_host_name_is_looked_up(void **state)
{
    struct address address = parsed("localhost:9000");
    (void)state;
    assert_string_equal(address.text, "localhost:9000");
    assert_true(address.sa.ss_family == AF_INET || address.sa.ss_family == AF_INET6);
    assert_int_equal(ntohs(((struct sockaddr_in *)&address.sa)->sin_port), 9000);
}

static void what_is_no_address_is_refused_with_a_reason(void **state)
{
    static const char *const wrong[] = {
        "",
        "localhost",
        "9000",
        ":9000",
        ":",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:80x",
        "127.0.0.1:80 ",
        "127.0.0.1: 80",
        "127.0.0.1:+80",
        "127.0.0.1:-80",
        "127.0.0.1:65536",
        "127.0.0.1:99999999999999999999",
        "127.0.0.1:http",
        "127.0.0.1:0x50",
        "::1:80",
        "::1",
        "[::1]",
        "[::1]:",
        "[::1]80",
        "[::1:80",
        "[::1]x:80",
        "[]:80",
        "[:80",
        "::1]:80",
    };
    static const char *const unknown[] = {"a..b:80", "no host:80", "[::g]:80", "256.0.0.1.2:80"};
    struct address address;
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(wrong); i++) {
        if (address_parse(&address, wrong[i], err, sizeof(err)) != -1) {
            fail_msg("taken as an address: %s", wrong[i]);
        }
        assert_non_null(strstr(err, "allowed is a path, unix:PATH, "));
    }
    for (size_t i = 0; i < CHECK_COUNT(unknown); i++) {
        assert_int_equal(address_parse(&address, unknown[i], err, sizeof(err)), -1);
        assert_non_null(strstr(err, "allowed is a host that is known"));
    }
}

static void a_text_of_any_length_is_read_in_bounds(void **state)
{
    (void)state;
    for (size_t len = 1; len < 600; len++) {
        char *text = malloc(len + 5);
        struct address address;
        char short_err[16];
        assert_non_null(text);
        memset(text, '-', len); /* no host name looks like this */
        memcpy(text + len, ":80", 4);
        assert_int_equal(address_parse(&address, text, short_err, sizeof(short_err)), -1);
        assert_non_null(memchr(short_err, '\0', sizeof(short_err)));
        free(text);
    }
}

static void a_unix_socket_has_exactly_the_mode_asked_for(void **state)
{
    static const mode_t modes[] = {0600, 0660, 0666, 0777, 0640, 0, 0200, 0622, 01660};
    static const mode_t umasks[] = {0, 022, 077, 0777};
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(modes) * CHECK_COUNT(umasks); i++) {
        struct stat st;
        mode_t mask = umasks[i % CHECK_COUNT(umasks)];
        mode_t before = umask(mask);
        struct listener listener = bound(socket_at, modes[i / CHECK_COUNT(umasks)]);
        assert_int_equal(umask(before), mask); /* put back */
        assert_int_equal(mode_before_chmod & ~modes[i / CHECK_COUNT(umasks)], 0);
        assert_int_equal(stat(socket_at, &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 07777, modes[i / CHECK_COUNT(umasks)]);
        address_unlink(&listener);
        assert_int_equal(access(socket_at, F_OK), -1);
        close(listener.fd);
    }
}

static void a_socket_whose_mode_cannot_be_set_is_not_used(void **state)
{
    mode_t mask = umask(022);
    (void)state;
    chmod_fails = 1;
    refuses_to_bind(socket_at, "not permitted");
    assert_int_equal(umask(mask), 022);
}

static void a_bound_socket_does_not_block_and_is_not_inherited(void **state)
{
    const char *const texts[] = {socket_at, "127.0.0.1:0"};
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(texts); i++) {
        struct listener listener = bound(texts[i], 0600);
        int listens = 1;
        socklen_t len = sizeof(listens);
        assert_true(fcntl(listener.fd, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(listener.fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(getsockopt(listener.fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len), 0);
        assert_false(listens);
        assert_int_equal(listen(listener.fd, 1), 0);
        assert_true(connects(&listener.address));
        address_unlink(&listener);
        close(listener.fd);
    }
}

static void the_longest_path_can_be_bound(void **state)
{
    char path[PATH_LONGEST + 1];
    (void)state;
    memset(path, 'p', sizeof(path));
    memcpy(path, folder, strlen(folder));
    path[strlen(folder)] = '/';
    path[PATH_LONGEST] = '\0';
    struct listener listener = bound(path, 0600);
    assert_int_equal(access(path, F_OK), 0);
    address_unlink(&listener);
    assert_int_equal(access(path, F_OK), -1);
    close(listener.fd);
}

static void a_stale_socket_file_is_replaced(void **state)
{
    struct listener dead = bound(socket_at, 0600);
    (void)state;
    assert_int_equal(listen(dead.fd, 1), 0);
    close(dead.fd);
    assert_int_equal(access(socket_at, F_OK), 0);
    struct listener listener = bound(socket_at, 0600);
    assert_int_equal(listen(listener.fd, 1), 0);
    assert_true(connects(&listener.address));
    address_unlink(&listener);
    close(listener.fd);
}

static void a_socket_in_use_is_refused_and_left_alone(void **state)
{
    struct listener live = bound(socket_at, 0600);
    (void)state;
    assert_int_equal(listen(live.fd, 1), 0);
    refuses_to_bind(socket_at, "in use");
    assert_true(connects(&live.address));
    address_unlink(&live);
    close(live.fd);
}

static void a_socket_in_use_with_a_full_backlog_is_refused(void **state)
{
    int fds[16];
    size_t count = 0;
    int rc = 0;
    struct listener live = bound(socket_at, 0600);
    (void)state;
    assert_int_equal(listen(live.fd, 0), 0);
    while (rc == 0 && count < CHECK_COUNT(fds)) {
        fds[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        rc = connect(fds[count], (struct sockaddr *)&live.address.sa, live.address.len);
        count++;
    }
    assert_int_equal(rc, -1);
    assert_int_equal(errno, EAGAIN);
    refuses_to_bind(socket_at, "in use");
    assert_int_equal(access(socket_at, F_OK), 0);
    while (count > 0) {
        close(fds[--count]);
    }
    address_unlink(&live);
    close(live.fd);
}

static void a_file_that_is_no_socket_is_refused_and_left_alone(void **state)
{
    char target[128];
    struct stat st;
    (void)state;
    int fd = open(socket_at, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "keep", 4), 4);
    close(fd);
    refuses_to_bind(socket_at, "no socket");
    assert_int_equal(stat(socket_at, &st), 0);
    assert_int_equal(st.st_size, 4);
    unlink(socket_at);

    assert_int_equal(mkdir(socket_at, 0700), 0);
    refuses_to_bind(socket_at, "no socket");
    assert_int_equal(rmdir(socket_at), 0);

    /* Nor is a link to a stale socket one. */
    snprintf(target, sizeof(target), "%s/target", folder);
    struct listener dead = bound(target, 0600);
    close(dead.fd);
    assert_int_equal(symlink(target, socket_at), 0);
    refuses_to_bind(socket_at, "no socket");
    assert_int_equal(access(target, F_OK), 0);
    unlink(target);
}

static void a_path_that_cannot_be_bound_is_refused(void **state)
{
    char path[128];
    (void)state;
    snprintf(path, sizeof(path), "%s/none/s", folder);
    refuses_to_bind(path, "No such file");
    snprintf(path, sizeof(path), "%s/", folder);
    refuses_to_bind(path, "no socket");
}

static void only_the_own_socket_file_is_removed(void **state)
{
    char other_at[128];
    struct stat st;
    struct listener listener = bound(socket_at, 0600);
    (void)state;
    snprintf(other_at, sizeof(other_at), "%s/other", folder);
    struct listener other = bound(other_at, 0600);
    assert_int_equal(rename(other_at, socket_at), 0); /* as a newer process would */
    address_unlink(&listener);
    assert_int_equal(lstat(socket_at, &st), 0);
    assert_true(st.st_ino == other.ino && st.st_dev == other.dev);

    assert_int_equal(unlink(socket_at), 0);
    address_unlink(&listener); /* gone: no harm */
    int fd = open(socket_at, O_CREAT | O_WRONLY, 0600);
    address_unlink(&listener);
    assert_int_equal(access(socket_at, F_OK), 0);
    close(fd);
    close(other.fd);
    close(listener.fd);
}

static void binding_to_port_0_tells_the_port(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "[::1]"};
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(hosts); i++) {
        struct sockaddr_storage sa;
        socklen_t len = sizeof(sa);
        char text[ADDRESS_TEXT_MAX];
        struct listener listener;
        snprintf(text, sizeof(text), "%s:0", hosts[i]);
        struct address address = parsed(text);
        if (address_bind(&listener, &address, 0, err, sizeof(err)) != 0) {
            assert_int_equal(i, 1); /* a machine may have no IPv6 */
            continue;
        }
        assert_int_equal(getsockname(listener.fd, (struct sockaddr *)&sa, &len), 0);
        assert_int_equal(listener.address.len, len);
        unsigned port = ntohs(((struct sockaddr_in *)&sa)->sin_port);
        assert_int_not_equal(port, 0);
        assert_int_equal(ntohs(((struct sockaddr_in *)&listener.address.sa)->sin_port), port);
        snprintf(text, sizeof(text), "%s:%u", hosts[i], port);
        assert_string_equal(listener.address.text, text);
        address_unlink(&listener); /* has nothing to remove */
        close(listener.fd);
    }
}

static void a_port_in_use_is_refused(void **state)
{
    struct listener live = bound("127.0.0.1:0", 0);
    (void)state;
    assert_int_equal(listen(live.fd, 1), 0);
    refuses_to_bind(live.address.text, "in use");
    close(live.fd);
}

#define ADDRESS_TEST(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_unix_addresses),
        cmocka_unit_test(name_that_was_looked_up_is_handed_on_with_its_numbers),
        cmocka_unit_test(a_path_has_1_to_107_bytes),
        cmocka_unit_test(hosts_and_ports_are_internet_addresses),
        cmocka_unit_test(a_host_name_is_looked_up),
        cmocka_unit_test(what_is_no_address_is_refused_with_a_reason),
        cmocka_unit_test(a_text_of_any_length_is_read_in_bounds),
        ADDRESS_TEST(a_unix_socket_has_exactly_the_mode_asked_for),
        ADDRESS_TEST(a_socket_whose_mode_cannot_be_set_is_not_used),
        ADDRESS_TEST(a_bound_socket_does_not_block_and_is_not_inherited),
        ADDRESS_TEST(the_longest_path_can_be_bound),
        ADDRESS_TEST(a_stale_socket_file_is_replaced),
        ADDRESS_TEST(a_socket_in_use_is_refused_and_left_alone),
        ADDRESS_TEST(a_socket_in_use_with_a_full_backlog_is_refused),
        ADDRESS_TEST(a_file_that_is_no_socket_is_refused_and_left_alone),
        ADDRESS_TEST(a_path_that_cannot_be_bound_is_refused),
        ADDRESS_TEST(only_the_own_socket_file_is_removed),
        ADDRESS_TEST(binding_to_port_0_tells_the_port),
        ADDRESS_TEST(a_port_in_use_is_refused),
    };
    return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
