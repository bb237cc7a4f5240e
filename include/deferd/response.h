/*
 * The response on its way from the application to the web server: header block, body, marker.
 */
#ifndef DEFERD_RESPONSE_H
#define DEFERD_RESPONSE_H

#include "deferd/stream.h"

#include <stddef.h>
#include <stdint.h>

struct request;

/* Content of a STDOUT record. Collects in down what the client is to see. May free the request. */
void response_stdout(struct request *request, const uint8_t *data, size_t len, struct gather *down);

/* Content of a STDERR record. */
void response_stderr(struct request *request, const uint8_t *data, size_t len, struct gather *down);

/* The deferred phase is over: the last report may lack its LF. */
void response_end_reports(struct request *request);

/* The application ended without a marker: what looked like the beginning of one goes to the
 * client. */
void response_end(struct request *request, struct gather *down);

#endif
