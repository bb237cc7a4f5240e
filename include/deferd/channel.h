/*
 * The line protocol between master and worker, over a socket pair.
 *
 *     worker to master    ready | failed TEXT | leaving | reload | upgrade | quit | fpm POOL |
 *                         end POOL PID STARTED REQUEST | pause POOL | resume POOL | pong
 *     master to worker    tell | retire MS | drain MS | share N | done | failed TEXT | reopen |
 *                         pause POOL | resume POOL | ping
 */
#ifndef DEFERD_CHANNEL_H
#define DEFERD_CHANNEL_H

#include <uv.h>

struct channel;

struct channel_events {
    void (*line)(void *arg, char *line); /* may be changed; valid during the call */
    void (*end)(void *arg);              /* the peer is gone; the channel is still to be closed */
    void *arg;
};

/* Takes the descriptor over. Returns NULL without memory; then the descriptor is the caller's. */
struct channel *channel_open(uv_loop_t *loop, int fd, const struct channel_events *events);

/* Sends one line, its LF added. What the peer does not read yet waits, in order. A peer that has
 * not read 64 KiB of lines hangs: what comes then is dropped, and logged. */
__attribute__((format(printf, 2, 3))) void channel_send(struct channel *channel, const char *format,
                                                        ...);

/* From now on it is no reason for the loop to go on. */
void channel_unref(struct channel *channel);

int channel_fd(const struct channel *channel);

/* Closes and frees it; no callback is called any more. */
void channel_close(struct channel *channel);

#endif
