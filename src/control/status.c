/*
 * Happy path: a request for status_path or ping.path, or one of metrics.listen, gets a page, which
 * is rendered for it or, if very many ask, shared with others. Failure modes: no memory,
 * or readers so slow that too many old pages are alive: a short 503 instead.
 */
#include "deferd/status.h"

#include "deferd/asset.h"
#include "deferd/metrics.h"
#include "deferd/pool.h"
#include "deferd/render.h"
#include "deferd/request.h"
#include "deferd/snapshot.h"
#include "deferd/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <uv.h>

/* Where the page wants its nonce. */
#define STATUS_NONCE "@NONCE@"

#define STATUS_FULL 16 /* of a variant; the rest is its format */

static const char *const status_types[] = {
    [STATUS_TEXT] = "text/plain; charset=utf-8",
    [STATUS_HTML] = "text/html; charset=utf-8",
    [STATUS_XML] = "text/xml; charset=utf-8",
    [STATUS_JSON] = "application/json",
    [STATUS_OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

static const char status_prometheus_type[] = "text/plain; version=0.0.4; charset=utf-8";

int status_open(struct status *status, struct proxy *proxy, const struct peers *peers)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *status = (struct status){.proxy = proxy, .peers = peers};
    status->started = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    status->credit = STATUS_CREDIT_NS;
    status->credited = uv_hrtime();
    status->failures = calloc(proxy->pool_count, sizeof(*status->failures));
    return status->failures != NULL ? 0 : UV_ENOMEM;
}

void status_free(struct status *status)
{
    for (unsigned i = 0; i < STATUS_CACHED; i++) {
        page_release(status->cached[i].page);
    }
    free(status->failures);
    *status = (struct status){0};
}

double status_memory(void)
{
    size_t rss = 0;
    uv_resident_set_memory(&rss);
    return (double)rss;
}

double status_cpu(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void status_request_ended(struct status *status, const struct request *request,
                          enum outcome outcome)
{
    if (outcome_is_failure(outcome)) {
        failures_add(&status->failures[request->pool - status->proxy->pools], request, outcome);
    }
}

/* --- what a query asks for -------------------------------------------------------------------- */

/* Is this one of the query's parameters, with or without a value? */
static int status_asks(const char *query, size_t len, const char *name)
{
    size_t name_len = strlen(name);
    size_t at = 0;
    while (at < len) {
        const char *end = memchr(query + at, '&', len - at);
        size_t part = end != NULL ? (size_t)(end - query) - at : len - at;
        if (part >= name_len && memcmp(query + at, name, name_len) == 0 &&
            (part == name_len || query[at + name_len] == '=')) {
            return 1;
        }
        at += part + 1;
    }
    return 0;
}

enum status_format status_query(const char *query, size_t len, int *full)
{
    /* In php-fpm's order: the first that is asked for counts. */
    static const struct {
        const char *name;
        enum status_format format;
    } words[] = {{"html", STATUS_HTML},
                 {"xml", STATUS_XML},
                 {"json", STATUS_JSON},
                 {"openmetrics", STATUS_OPENMETRICS}};
    *full = status_asks(query, len, "full");
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (status_asks(query, len, words[i].name)) {
            return words[i].format;
        }
    }
    return STATUS_TEXT;
}

/* --- rendering -------------------------------------------------------------------------------- */

static int status_append_json(const char *data, size_t len, void *arg)
{
    return buf_append(arg, data, len) == 0 ? 0 : -1;
}

static int status_render_snapshot(struct buf *out, const struct status *status,
                                  const struct pool *pool, enum status_format format, int full)
{
    json_t *snapshot = snapshot_make(status, pool, full);
    int rc;
    if (snapshot == NULL) {
        return UV_ENOMEM;
    }
    if (format == STATUS_XML) {
        rc = render_xml(out, snapshot);
    } else if (format == STATUS_JSON) {
        rc = json_dump_callback(snapshot, status_append_json, out,
                                JSON_COMPACT | JSON_REAL_PRECISION(15));
    } else {
        rc = render_text(out, snapshot);
    }
    json_decref(snapshot);
    return rc;
}

static struct page *status_render(const struct status *status, const struct pool *pool, int variant)
{
    struct buf body = {0};
    int rc;
    enum status_format format = (enum status_format)(variant & (STATUS_FULL - 1));
    const char *type = status_types[format];
    if (pool == NULL || format == STATUS_OPENMETRICS) {
        rc = metrics_render(&body, status, pool, format == STATUS_OPENMETRICS);
        type = format == STATUS_OPENMETRICS ? type : status_prometheus_type;
    } else {
        rc = status_render_snapshot(&body, status, pool, format, variant & STATUS_FULL);
    }
    if (rc != 0) {
        buf_free(&body);
        return NULL;
    }
    return page_make(&status->proxy->page_budget, type, &body);
}

/* The page for people. Only scripts and styles that carry this response's nonce are its own. */
static struct page *status_html(struct status *status)
{
    char nonce[TOKEN_LEN + 1];
    struct buf body = {0};
    const char *at = asset_status_html;
    const char *hole;
    int rc = token_make(nonce);
    while (rc == 0 && (hole = memmem(at, (size_t)(asset_status_html_end - at), STATUS_NONCE,
                                     sizeof(STATUS_NONCE) - 1)) != NULL) {
        rc = buf_append(&body, at, (size_t)(hole - at));
        rc = rc == 0 ? buf_append(&body, nonce, TOKEN_LEN) : rc;
        at = hole + sizeof(STATUS_NONCE) - 1;
    }
    if (rc == 0) {
        rc = buf_append(&body, at, (size_t)(asset_status_html_end - at));
    }
    if (rc != 0) {
        buf_free(&body);
        return NULL;
    }
    struct page *page = page_make(&status->proxy->page_budget, status_types[STATUS_HTML], &body);
    if (page != NULL) {
        snprintf(page->policy, sizeof(page->policy),
                 "default-src 'none'; connect-src 'self'; img-src data:; script-src 'nonce-%s'; "
                 "style-src "
                 "'nonce-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
                 nonce, nonce);
    }
    return page;
}

/* --- the cache -------------------------------------------------------------------------------- */

/* The place of a page: the one it has, or the one that was made longest ago. */
static struct status_cached *status_place(struct status *status, const struct pool *pool,
                                          int variant)
{
    struct status_cached *place = &status->cached[0];
    for (unsigned i = 0; i < STATUS_CACHED; i++) {
        struct status_cached *cached = &status->cached[i];
        if (cached->page != NULL && cached->pool == pool && cached->variant == variant) {
            return cached;
        }
        if (cached->made < place->made) {
            place = cached;
        }
    }
    return place;
}

static void status_add_credit(struct status *status, uint64_t now)
{
    status->credit += (int64_t)((now - status->credited) / STATUS_SHARE);
    status->credited = now;
    if (status->credit > STATUS_CREDIT_NS) {
        status->credit = STATUS_CREDIT_NS;
    }
}

/* A reference to a page of this kind, a new one if there is credit for it. NULL if there is neither
 * credit nor an old one, or no room for one. */
static struct page *status_get(struct status *status, const struct pool *pool, int variant)
{
    uint64_t now = uv_hrtime();
    struct status_cached *place = status_place(status, pool, variant);
    int mine = place->page != NULL && place->pool == pool && place->variant == variant;
    status_add_credit(status, now);
    if (status->credit <= 0) {
        return mine ? page_hold(place->page) : NULL;
    }
    page_release(place->page);
    place->page = status_render(status, pool, variant);
    place->pool = pool;
    place->variant = variant;
    place->made = uv_hrtime();
    status->credit -= (int64_t)(place->made - now);
    return place->page != NULL ? page_hold(place->page) : NULL;
}

static struct page *status_or_busy(struct status *status, struct page *page)
{
    return page != NULL
               ? page
               : page_text(&status->proxy->page_budget, 503, "Too many are reading this page.\n");
}

static int status_is(const struct slice *script, const char *path)
{
    size_t len = strlen(path);
    return len > 0 && script->len == len && memcmp(script->data, path, len) == 0;
}

struct page *status_page(struct status *status, const struct request *request)
{
    const struct head *head = &request->head;
    const struct pool_options *options = request->pool->options;
    int full;
    if (status_is(&head->script, options->ping_path)) {
        return page_text(&status->proxy->page_budget, 200, options->ping_response);
    }
    if (!status_is(&head->script, options->status_path)) {
        return NULL;
    }
    enum status_format format =
        status_query((const char *)head->query.data, head->query.len, &full);
    struct page *page = format == STATUS_HTML ? status_html(status)
                                              : status_get(status, request->pool,
                                                           (int)format | (full ? STATUS_FULL : 0));
    return status_or_busy(status, page);
}

struct page *status_metrics(struct status *status, int openmetrics)
{
    int variant = openmetrics ? STATUS_OPENMETRICS : STATUS_TEXT;
    return status_or_busy(status, status_get(status, NULL, variant));
}
