/*
 * What people and programs are shown of the proxy: the status page in its formats, the answer to a
 * ping, and the metrics.
 */
#ifndef DEFERD_STATUS_H
#define DEFERD_STATUS_H

#include "deferd/failures.h"
#include "deferd/page.h"
#include "deferd/proxy.h"

#include <stdint.h>

/* What can be asked for, by the words in a query. */
enum status_format {
    STATUS_TEXT,
    STATUS_HTML,
    STATUS_XML,
    STATUS_JSON,
    STATUS_OPENMETRICS,
    STATUS_FORMATS,
};

/* Pages that were rendered last. A new one is not made before STATUS_REST times the time has passed
 * that this one took: so rendering never takes more than a small part of the CPU, however many
 * ask. */
#define STATUS_CACHED 8
#define STATUS_REST   20

struct status_cached {
    struct page *page;       /* owned: a reference; NULL if there is none */
    const struct pool *pool; /* borrowed; NULL for the metrics of all pools */
    int variant;             /* format, and whether in full */
    uint64_t made;           /* uv_hrtime() */
    uint64_t until;
};

struct status {
    struct proxy *proxy;       /* borrowed */
    struct failures *failures; /* owned, one for each pool */
    double started;            /* Unix time */
    struct status_cached cached[STATUS_CACHED];
};

/* The proxy is open. Returns 0 or UV_ENOMEM; after an error too status_free is due. */
int status_open(struct status *status, struct proxy *proxy);

/* A request is over. */
void status_request_ended(struct status *status, const struct request *request,
                          enum outcome outcome);

/* For struct proxy_events. */
struct page *status_page(struct status *status, const struct request *request);

/* The metrics of all pools, in Prometheus's text format or as OpenMetrics. A reference; NULL
 * without memory. */
struct page *status_metrics(struct status *status, int openmetrics);

/* Which format a query asks for, and whether in full, as php-fpm reads it. */
enum status_format status_query(const char *query, size_t len, int *full);

/* Frees what it owns. */
void status_free(struct status *status);

/* For gauges without labels. */
double status_memory(void);
double status_cpu(void);

#endif
