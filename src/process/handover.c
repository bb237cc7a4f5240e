#include "deferd/handover.h"

#include "deferd/buf.h"
#include "deferd/channel.h"
#include "deferd/child.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HANDOVER_STATE "DEFERD_STATE"

static int handover_config = -1;

static void handover_set_cloexec(int fd, int cloexec)
{
    if (fd >= 0) {
        fcntl(fd, F_SETFD, cloexec ? FD_CLOEXEC : 0);
    }
}

static void handover_set_all(const struct handover *handover, int cloexec)
{
    for (unsigned i = 0; i < handover->sockets->count; i++) {
        handover_set_cloexec(handover->sockets->entries[i].listener.fd, cloexec);
    }
    for (unsigned i = 0; i < handover->child_count; i++) {
        handover_set_cloexec(handover->children[i].fd, cloexec);
    }
    handover_set_cloexec(handover->pid_fd, cloexec);
    handover_set_cloexec(handover->sockets->handoff[0], cloexec);
    handover_set_cloexec(handover->sockets->handoff[1], cloexec);
    handover_set_cloexec(handover_config, cloexec);
}

void handover_add(struct handover *handover, const struct child *child, int current)
{
    if (handover->child_count < HANDOVER_CHILDREN_MAX) {
        unsigned i = handover->child_count++;
        handover->children[i].pid = child->pid;
        handover->children[i].fd = child->channel != NULL ? channel_fd(child->channel) : -1;
        handover->children[i].current = current;
        handover->children[i].left = child->left;
    }
}

/* A line for each descriptor. */
int handover_write(const struct handover *handover, const struct config *config)
{
    char text[128 + 2 * ADDRESS_TEXT_MAX + sizeof(handover->pid_path)];
    char address[2 * ADDRESS_TEXT_MAX];
    struct buf state = {0};
    int rc = 0;
    for (unsigned i = 0; i < handover->sockets->count; i++) {
        const struct socket_entry *entry = &handover->sockets->entries[i];
        address_print_resolved(&entry->asked, address, sizeof(address));
        snprintf(text, sizeof(text), "socket %d %llu %llu %s\n", entry->listener.fd,
                 (unsigned long long)entry->listener.dev, (unsigned long long)entry->listener.ino,
                 address);
        rc |= buf_append(&state, text, strlen(text));
    }
    for (unsigned i = 0; i < handover->child_count; i++) {
        snprintf(text, sizeof(text), "child %d %d %d %llu\n", (int)handover->children[i].pid,
                 handover->children[i].fd, handover->children[i].current,
                 (unsigned long long)handover->children[i].left);
        rc |= buf_append(&state, text, strlen(text));
    }
    snprintf(text, sizeof(text), "handoff %d %d\npid %d %s\n", handover->sockets->handoff[0],
             handover->sockets->handoff[1], handover->pid_fd, handover->pid_path);
    rc |= buf_append(&state, text, strlen(text) + 1);
    handover_config = child_config_fd(config);
    snprintf(text, sizeof(text), "%d", handover_config);
    if (rc != 0 || handover_config < 0 || setenv(HANDOVER_STATE, (const char *)state.data, 1) ||
        setenv(HANDOVER_CONFIG, text, 1)) {
        rc = -1;
    }
    buf_free(&state);
    handover_set_all(handover, rc != 0);
    return rc != 0 ? -1 : 0;
}

void handover_undo(const struct handover *handover)
{
    unsetenv(HANDOVER_STATE);
    unsetenv(HANDOVER_CONFIG);
    handover_set_all(handover, 1);
    if (handover_config >= 0) {
        close(handover_config);
        handover_config = -1;
    }
}

int handover_is_there(void)
{
    return getenv(HANDOVER_STATE) != NULL;
}

static void handover_read_line(struct handover *handover, const char *line)
{
    struct sockets *sockets = handover->sockets;
    struct socket_entry entry = {0};
    unsigned long long dev;
    unsigned long long ino;
    unsigned long long left = 0; /* a binary of before does not say it */
    int a;
    int b;
    int c;
    int at = 0;
    char err[256];
    if (sscanf(line, "socket %d %llu %llu %n", &a, &dev, &ino, &at) == 3 && at > 0 &&
        sockets->count < SOCKETS_MAX &&
        address_parse(&entry.asked, line + at, err, sizeof(err)) == 0) {
        entry.listener.fd = a;
        address_of_socket(&entry.listener.address, a);
        entry.listener.dev = (dev_t)dev;
        entry.listener.ino = (ino_t)ino;
        sockets->entries[sockets->count++] = entry;
    } else if (sscanf(line, "child %d %d %d %llu", &a, &b, &c, &left) >= 3 &&
               handover->child_count < HANDOVER_CHILDREN_MAX) {
        unsigned i = handover->child_count++;
        handover->children[i].pid = a;
        handover->children[i].fd = b;
        handover->children[i].current = c;
        handover->children[i].left = left;
    } else if (sscanf(line, "handoff %d %d", &a, &b) == 2) {
        sockets->handoff[0] = a;
        sockets->handoff[1] = b;
    } else if (sscanf(line, "pid %d %n", &a, &at) == 1 && at > 0) {
        handover->pid_fd = a;
        snprintf(handover->pid_path, sizeof(handover->pid_path), "%s", line + at);
    }
}

void handover_read(struct handover *handover)
{
    const char *state = getenv(HANDOVER_STATE);
    char *text = state != NULL ? strdup(state) : NULL;
    const char *config = getenv(HANDOVER_CONFIG);
    char *save = NULL;
    handover->child_count = 0;
    handover->pid_fd = -1;
    for (char *line = text != NULL ? strtok_r(text, "\n", &save) : NULL; line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        handover_read_line(handover, line);
    }
    free(text);
    handover_config = config != NULL ? (int)strtol(config, NULL, 10) : -1;
    handover_undo(handover); /* what the next exec starts is a worker */
}
