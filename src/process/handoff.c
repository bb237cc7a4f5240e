/*
 * Happy path: one message a connection: its pool's name, and the descriptor. Failure modes: the
 * messages on their way are too many: later; the pool is gone with the new configuration: the
 * connection is closed, as its listening socket is.
 */
#include "deferd/handoff.h"

#include "deferd/client.h"
#include "deferd/log.h"
#include "deferd/pool.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HANDOFF_NAME_MAX 64

/* How many are taken in one turn of the loop. */
#define HANDOFF_TURN 64

int handoff_make(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds);
}

int handoff_send(const struct handoff *handoff, const char *pool, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec name = {(void *)pool, strlen(pool)};
    struct msghdr message = {.msg_iov = &name,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
    if (sendmsg(handoff->write_fd, &message, MSG_NOSIGNAL) >= 0) {
        return 0;
    }
    /* Too many descriptors on their way is no more than too many messages. */
    return errno == ETOOMANYREFS || errno == ENOBUFS ? UV_EAGAIN : uv_translate_sys_error(errno);
}

/* Receives one. Returns the descriptor, or -1 if there is none. */
static int handoff_receive(int from, char *name, size_t size)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec text = {name, size - 1};
    struct msghdr message = {.msg_iov = &text,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    int fd = -1;
    ssize_t n = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    name[n > 0 ? n : 0] = '\0';
    const struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        memcpy(&fd, CMSG_DATA(header), sizeof(int));
    }
    return fd;
}

/* Returns 0 if the descriptor is somebody else's now. */
static int handoff_take(const struct handoff *handoff, const char *name, int fd)
{
    if (strcmp(name, HANDOFF_PHASES) == 0) {
        return peers_adopt(handoff->peers, fd);
    }
    struct pool *pool = proxy_pool(handoff->proxy, name);
    return pool != NULL ? client_adopt(pool, fd) : UV_ENOENT;
}

static void handoff_on_message(uv_poll_t *poll, int status, int events)
{
    const struct handoff *handoff = poll->data;
    char name[HANDOFF_NAME_MAX];
    (void)status;
    (void)events;
    for (int turn = 0; turn < HANDOFF_TURN; turn++) {
        int fd = handoff_receive(handoff->read_fd, name, sizeof(name));
        if (fd < 0) {
            return;
        }
        if (handoff_take(handoff, name, fd) != 0) {
            close(fd);
        }
    }
}

int handoff_open(struct handoff *handoff, struct proxy *proxy, struct peers *peers, int read_fd,
                 int write_fd)
{
    handoff->proxy = proxy;
    handoff->peers = peers;
    handoff->read_fd = read_fd;
    handoff->write_fd = write_fd;
    handoff->poll.data = handoff;
    int rc = uv_poll_init(proxy->loop, &handoff->poll, read_fd);
    if (rc == 0) {
        rc = uv_poll_start(&handoff->poll, UV_READABLE, handoff_on_message);
        uv_unref((uv_handle_t *)&handoff->poll);
        handoff->reading = 1;
    }
    return rc;
}

void handoff_stop(struct handoff *handoff)
{
    if (handoff->reading) {
        handoff->reading = 0;
        uv_poll_stop(&handoff->poll);
    }
}
