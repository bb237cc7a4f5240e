/*
 * What people and programs are shown of the proxy: the status page in its formats, the answer to a
 * ping, and the metrics.
 */
#ifndef DEFERD_STATUS_H
#define DEFERD_STATUS_H

#include "deferd/failures.h"
#include "deferd/page.h"
#include "deferd/peer.h"
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

/* Rendering may take one part in STATUS_SHARE of the time, and what was not used is saved up to
 * STATUS_CREDIT_NS: who asks now and then always gets a new page, and however many ask, they do not
 * take the CPU from requests. Without credit the page that was rendered last is shown again. */
#define STATUS_SHARE     20
#define STATUS_CREDIT_NS 250000000
#define STATUS_CACHED    8

struct status_cached {
    struct page *page;       /* owned: a reference; NULL if there is none */
    const struct pool *pool; /* borrowed; NULL for the metrics of all pools */
    int variant;             /* format, and whether in full */
    uint64_t made;           /* uv_hrtime() */
};

struct status {
    struct proxy *proxy;       /* borrowed */
    const struct peers *peers; /* borrowed; the workers that drain */
    struct failures *failures; /* owned, one for each pool */
    double started;            /* Unix time */
    int64_t credit;            /* nanoseconds that rendering may take; negative after a long one */
    uint64_t credited;         /* uv_hrtime() of the last addition */
    struct status_cached cached[STATUS_CACHED];
};

/* The proxy is open. Returns 0 or UV_ENOMEM; after an error too status_free is due. */
int status_open(struct status *status, struct proxy *proxy, const struct peers *peers);

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
