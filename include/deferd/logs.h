/*
 * The logs of requests, of all pools of a process.
 */
#ifndef DEFERD_LOGS_H
#define DEFERD_LOGS_H

#include "deferd/proxy.h"

#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

struct accesslog;
struct slowlog;

struct pool_logs {
    struct accesslog *access; /* owned, as the next; NULL without one */
    struct slowlog *slow;
};

struct logs {
    struct proxy *proxy;     /* borrowed; to be set before there are requests */
    struct pool_logs *pools; /* owned; those of proxy->pools */
    unsigned count;
    uv_timer_t retry; /* while something could not be written */
};

/* Opens what the pools' options say; new files get this owner (-1: as it is). *logs is zeroed.
 * Returns 0, or -1 with a sentence in err. */
int logs_open(struct logs *logs, uv_loop_t *loop, struct pool_options *const *options,
              unsigned count, uid_t uid, gid_t gid, char *err, size_t err_size);

/* proxy_events' callbacks; arg is the logs. */
void logs_response_began(void *arg, struct request *request, const uint8_t *head, size_t len);
void logs_phase_began(void *arg, struct request *request);
void logs_request_ended(void *arg, const struct request *request, enum outcome outcome);

/* Opens all files again, the error log's too. */
void logs_reopen(struct logs *logs);

/* Writes what was collected, before the loop waits; what cannot be written yet wakes the loop
 * later. */
void logs_flush(struct logs *logs);

/* Closes all but the error log. The loop has to run once more. */
void logs_close(struct logs *logs);

/* Frees it, after the loop has ended. */
void logs_free(struct logs *logs);

/* Makes the files of all logs, or gives them their owner, for a worker that cannot do so any more.
 */
void logs_make_files(struct pool_options *const *options, unsigned count, uid_t uid, gid_t gid);

#endif
