/*
 * The metrics as Prometheus and OpenMetrics read them.
 */
#ifndef DEFERD_METRICS_H
#define DEFERD_METRICS_H

#include "deferd/buf.h"
#include "deferd/status.h"

#include <stdio.h>

/* Appends the metrics of one pool, or of all and of the process if pool is NULL. Of one pool in
 * OpenMetrics: php-fpm's own names in front. Returns 0 or UV_ENOMEM. */
int metrics_render(struct buf *out, const struct status *status, const struct pool *pool,
                   int openmetrics);

/* Writes docs/metrics.md. */
void metrics_document(FILE *out);

#endif
