#include "deferd/accesslog.h"

#include "deferd/format.h"
#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct accesslog {
    const struct pool_options *options; /* borrowed */
    struct format *format;              /* owned */
    struct sink sink;
};

int accesslog_open(struct accesslog **out, const struct pool_options *options, uid_t uid, gid_t gid,
                   char *err, size_t err_size)
{
    struct accesslog *log = calloc(1, sizeof(*log));
    if (log == NULL) {
        snprintf(err, err_size, "no memory");
        return -1;
    }
    log->options = options;
    log->sink.to.fd = -1;
    if (format_compile(&log->format, options->access_format, err, err_size) != 0) {
        free(log);
        return -1;
    }
    int rc = sink_open(&log->sink, options->access_log, uid, gid);
    if (rc != 0) {
        snprintf(err, err_size, "[%s] access.log = %s: %s", options->name, options->access_log,
                 strerror(-rc));
        accesslog_close(log);
        return -1;
    }
    *out = log;
    return 0;
}

void accesslog_response_began(const struct accesslog *log, struct request *request,
                              const uint8_t *head, size_t len)
{
    format_note_response(log->format, request, head, len);
}

void accesslog_phase_began(const struct accesslog *log, struct request *request)
{
    format_note_params(log->format, request);
}

void accesslog_request_ended(struct accesslog *log, const struct request *request,
                             enum outcome outcome)
{
    char *line = sink_room(&log->sink);
    if (line != NULL) {
        sink_put(&log->sink, format_put(log->format, request, outcome, line, SINK_LINE_MAX));
    }
}

void accesslog_reopen(struct accesslog *log)
{
    int rc = sink_reopen(&log->sink);
    if (rc != 0) {
        log_line(LOG_ERROR, "[%s] cannot open %s again: %s; the access log goes on in the old file",
                 log->options->name, log->options->access_log, strerror(-rc));
    }
}

size_t accesslog_flush(struct accesslog *log)
{
    size_t waiting = sink_flush(&log->sink);
    uint64_t dropped = sink_dropped(&log->sink);
    if (dropped > 0) {
        log_line(LOG_WARNING,
                 "[%s] %llu line(s) of the access log were dropped, for it could not be written",
                 log->options->name, (unsigned long long)dropped);
    }
    return waiting;
}

void accesslog_close(struct accesslog *log)
{
    sink_close(&log->sink);
    format_free(log->format);
    free(log);
}
