/*
 * A pool's slow log: one line for each deferred phase that takes longer than
 * defer_slowlog_timeout, while it does.
 */
#ifndef DEFERD_SLOWLOG_H
#define DEFERD_SLOWLOG_H

#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

struct pool_options;
struct request;
struct slowlog;

/* Opens what the options, which stay the caller's, say. Returns 0, or -1 with a sentence in err. */
int slowlog_open(struct slowlog **out, uv_loop_t *loop, const struct pool_options *options,
                 uid_t uid, gid_t gid, char *err, size_t err_size);

/* These two as proxy_events' callbacks. */
void slowlog_phase_began(struct slowlog *log, struct request *request);
void slowlog_request_ended(struct slowlog *log, const struct request *request);

/* Opens its file again, which was moved away. */
void slowlog_reopen(struct slowlog *log);

/* Writes what was collected. Returns how many bytes could not be written yet. */
size_t slowlog_flush(struct slowlog *log);

/* Frees it once its timer is closed, for which the loop has to run. */
void slowlog_close(struct slowlog *log);

#endif
