/*
 * Looks for the peer's end on a stream that is not read from.
 */
#ifndef DEFERD_WATCH_H
#define DEFERD_WATCH_H

#include <uv.h>

struct watch;

/* The peer is gone. status: 0 or UV_E…. The watch is still to be closed. */
typedef void (*watch_cb)(void *arg, int status);

/* Returns NULL if that cannot be had: then the end is seen when the stream is read again. */
struct watch *watch_open(const uv_handle_t *stream, watch_cb cb, void *arg);

/* Closes and frees it; its callback is not called any more. */
void watch_close(struct watch *watch);

#endif
