/*
 * The end of an event loop.
 */
#ifndef DEFERD_LOOP_H
#define DEFERD_LOOP_H

#include <uv.h>

/* Closes whatever is still open in it, and the loop. */
void loop_close(uv_loop_t *loop);

#endif
