/*
 * A pool's access log: one line for each request, when it is over.
 */
#ifndef DEFERD_ACCESSLOG_H
#define DEFERD_ACCESSLOG_H

#include "deferd/outcome.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct accesslog;
struct pool_options;
struct request;

/* Opens what the options, which stay the caller's, say. Returns 0, or -1 with a sentence in err. */
int accesslog_open(struct accesslog **out, const struct pool_options *options, uid_t uid, gid_t gid,
                   char *err, size_t err_size);

/* These three as proxy_events' callbacks. */
void accesslog_response_began(const struct accesslog *log, struct request *request,
                              const uint8_t *head, size_t len);
void accesslog_phase_began(const struct accesslog *log, struct request *request);
void accesslog_request_ended(struct accesslog *log, const struct request *request,
                             enum outcome outcome);

/* Opens its file again, which was moved away. */
void accesslog_reopen(struct accesslog *log);

/* Writes what was collected; what was lost is told to the error log. Returns how many bytes could
 * not be written yet. */
size_t accesslog_flush(struct accesslog *log);

void accesslog_close(struct accesslog *log);

#endif
