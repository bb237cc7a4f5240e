/*
 * The one line that each request leaves in the log, unless its pool has an access log.
 */
#ifndef DEFERD_REQUESTLOG_H
#define DEFERD_REQUESTLOG_H

#include "deferd/outcome.h"

struct request;

/* It is over: request->ended is set. What there was none of is "-". */
void requestlog_put(const struct request *request, enum outcome outcome);

#endif
