#include "deferd/log.h"

#include "deferd/sink.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What ends a line of JSON. */
#define LOG_JSON_END "\"}\n"

/* syslog(3) has a name for these too, but its header's names are the levels' here. */
static const struct log_level_names {
    const char *name;
    const char *label;
    int severity; /* syslog's */
} log_levels[] = {
    [LOG_ALERT] = {"alert", "ALERT", 1},       [LOG_ERROR] = {"error", "ERROR", 3},
    [LOG_WARNING] = {"warning", "WARNING", 4}, [LOG_NOTICE] = {"notice", "NOTICE", 5},
    [LOG_DEBUG] = {"debug", "DEBUG", 7},
};

#define LOG_LEVELS (sizeof(log_levels) / sizeof(log_levels[0]))

/* By syslog's numbers (RFC 3164, 4.1.1). */
static const char *const log_facilities[] = {
    "kern",   "user",   "mail",     "daemon", "auth",   "syslog", "lpr",    "news",
    "uucp",   "cron",   "authpriv", "ftp",    "",       "",       "",       "",
    "local0", "local1", "local2",   "local3", "local4", "local5", "local6", "local7",
};

#define LOG_FACILITIES (sizeof(log_facilities) / sizeof(log_facilities[0]))

static struct {
    struct sink sink;
    enum log_level level;
    enum log_format format;
    char ident[32];
    int facility;
    time_t second; /* the second that the texts below show */
    char stamp[32];
    char syslog[32];
    char iso[32];
    char zone[8];
} log_state = {
    .sink = {.to = {.fd = STDERR_FILENO}},
    .level = LOG_NOTICE,
    .second = -1,
    .ident = "deferd",
    .facility = 3,
};

/* --- where it goes ---------------------------------------------------------------------------- */

void log_open(int fd, enum log_level level)
{
    sink_use(&log_state.sink, fd);
    log_state.level = level;
}

int log_open_file(const char *path, uid_t uid, gid_t gid)
{
    return sink_open(&log_state.sink, path, uid, gid);
}

int log_open_syslog(const char *socket)
{
    return sink_open_syslog(&log_state.sink, socket);
}

void log_syslog(const char *ident, int facility)
{
    snprintf(log_state.ident, sizeof(log_state.ident), "%s", ident);
    log_state.facility = facility;
}

void log_reopen(void)
{
    int rc = sink_reopen(&log_state.sink);
    if (rc != 0) {
        log_line(LOG_ERROR, "cannot open %s again: %s; the log goes on in the old file",
                 log_state.sink.to.path, strerror(-rc));
    }
}

void log_set_level(enum log_level level)
{
    log_state.level = level;
}

void log_set_format(enum log_format format)
{
    log_state.format = format;
}

/* --- names ------------------------------------------------------------------------------------ */

int log_parse_level(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < LOG_LEVELS; i++) {
        if (strcmp(name, log_levels[i].name) == 0) {
            *out = (enum log_level)i;
            return 0;
        }
    }
    return -1;
}

const char *log_level_name(enum log_level level)
{
    return log_levels[level].name;
}

int log_parse_facility(const char *name, int *out)
{
    for (size_t i = 0; i < LOG_FACILITIES; i++) {
        if (name[0] != '\0' && strcmp(name, log_facilities[i]) == 0) {
            *out = (int)i;
            return 0;
        }
    }
    return -1;
}

const char *log_facility_name(int facility)
{
    return log_facilities[facility];
}

int log_enabled(enum log_level level)
{
    return level <= log_state.level;
}

/* --- the time --------------------------------------------------------------------------------- */

/* Brings the texts of the current second up to date. Returns its milliseconds. */
static int log_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != log_state.second) {
        struct tm tm;
        localtime_r(&now.tv_sec, &tm);
        strftime(log_state.stamp, sizeof(log_state.stamp), "%d-%b-%Y %H:%M:%S", &tm);
        strftime(log_state.syslog, sizeof(log_state.syslog), "%b %e %H:%M:%S", &tm);
        strftime(log_state.iso, sizeof(log_state.iso), "%Y-%m-%dT%H:%M:%S", &tm);
        int minutes = (int)(tm.tm_gmtoff / 60);
        int ahead = minutes >= 0 ? minutes : -minutes;
        snprintf(log_state.zone, sizeof(log_state.zone), "%c%02d:%02d", minutes < 0 ? '-' : '+',
                 ahead / 60 % 24, ahead % 60);
        log_state.second = now.tv_sec;
    }
    return (int)(now.tv_nsec / 1000000);
}

size_t log_stamp(char *out, size_t size)
{
    int ms = log_clock();
    return (size_t)snprintf(out, size, "[%s.%03d]", log_state.stamp, ms);
}

/* --- a line ----------------------------------------------------------------------------------- */

/* Writes text as the inside of a string of JSON, as far as it fits into size bytes; always ASCII:
 * what is no ASCII was sent by somebody, and may be no UTF-8. Returns the length. */
static size_t log_json_text(char *out, size_t size, const char *text)
{
    char piece[8];
    size_t at = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        int n;
        if (*p == '"' || *p == '\\') {
            n = snprintf(piece, sizeof(piece), "\\%c", *p);
        } else if (*p >= 0x80) {
            n = snprintf(piece, sizeof(piece), "\\\\x%02X", *p);
        } else if (*p < 0x20 || *p == 0x7f) {
            n = snprintf(piece, sizeof(piece), "\\u%04x", *p);
        } else {
            piece[0] = (char)*p;
            n = 1;
        }
        if (at + (size_t)n > size) {
            break;
        }
        memcpy(out + at, piece, (size_t)n);
        at += (size_t)n;
    }
    return at;
}

/* Writes the line with its LF behind at bytes of line. Returns its whole length. */
static size_t log_put_json(char *line, size_t at, int ms, enum log_level level, const char *text)
{
    unsigned long long request = 0;
    int behind = 0;
    at += (size_t)snprintf(line + at, LOG_LINE_MAX - at,
                           "{\"time\":\"%s.%03d%s\",\"level\":\"%s\",\"pid\":%d,", log_state.iso,
                           ms, log_state.zone, log_levels[level].name, (int)getpid());
    if (sscanf(text, "request %llu: %n", &request, &behind) == 1 && behind > 0) {
        at += (size_t)snprintf(line + at, LOG_LINE_MAX - at, "\"request\":%llu,", request);
        text += behind;
    } else if (sscanf(text, "request=%llu ", &request) == 1) {
        at += (size_t)snprintf(line + at, LOG_LINE_MAX - at, "\"request\":%llu,", request);
    }
    at += (size_t)snprintf(line + at, LOG_LINE_MAX - at, "\"message\":\"");
    at += log_json_text(line + at, LOG_LINE_MAX - at - sizeof(LOG_JSON_END), text);
    memcpy(line + at, LOG_JSON_END, sizeof(LOG_JSON_END) - 1);
    return at + sizeof(LOG_JSON_END) - 1;
}

static size_t log_put_text(char *line, size_t at, enum log_level level, const char *text)
{
    size_t len = strlen(text);
    at += (size_t)snprintf(line + at, LOG_LINE_MAX - at, "%s: ", log_levels[level].label);
    len = len < LOG_LINE_MAX - 1 - at ? len : LOG_LINE_MAX - 1 - at;
    memcpy(line + at, text, len);
    for (char *lf; (lf = memchr(line + at, '\n', len)) != NULL;) {
        *lf = ' ';
    }
    line[at + len] = '\n';
    return at + len + 1;
}

static void log_put(enum log_level level, const char *text)
{
    size_t at = 0;
    char *line = sink_room(&log_state.sink);
    if (line == NULL) {
        return;
    }
    int ms = log_clock();
    if (log_state.sink.to.kind == SINK_SYSLOG) {
        at = (size_t)snprintf(line, LOG_LINE_MAX, "<%d>%s %s[%d]: ",
                              log_state.facility << 3 | log_levels[level].severity,
                              log_state.syslog, log_state.ident, (int)getpid());
    } else if (log_state.format == LOG_TEXT) {
        at = (size_t)snprintf(line, LOG_LINE_MAX, "[%s.%03d] ", log_state.stamp, ms);
    }
    sink_put(&log_state.sink, log_state.format == LOG_JSON ? log_put_json(line, at, ms, level, text)
                                                           : log_put_text(line, at, level, text));
}

void log_line(enum log_level level, const char *format, ...)
{
    char text[LOG_LINE_MAX];
    va_list args;
    if (!log_enabled(level)) {
        return;
    }
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n >= 0) {
        log_put(level, text);
    }
    if (level <= LOG_ERROR) {
        log_flush();
    }
}

size_t log_flush(void)
{
    char text[128];
    size_t waiting = sink_flush(&log_state.sink);
    uint64_t dropped = sink_dropped(&log_state.sink);
    if (dropped > 0) {
        snprintf(text, sizeof(text),
                 "%llu line(s) of this log were dropped, for it could not be written",
                 (unsigned long long)dropped);
        log_put(LOG_WARNING, text);
        waiting = sink_flush(&log_state.sink);
    }
    return waiting;
}

void log_close(void)
{
    log_flush();
    sink_close(&log_state.sink);
}

/* --- what peers sent -------------------------------------------------------------------------- */

static const char *log_escape_from(char *out, size_t size, const void *data, size_t len,
                                   unsigned char first)
{
    static const char hex[] = "0123456789ABCDEF";
    const unsigned char *p = data;
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        int plain = p[i] >= first && p[i] < 0x7f && p[i] != '"' && p[i] != '\\';
        if (at + (plain ? 1 : 4) >= size) {
            break;
        }
        if (plain) {
            out[at++] = (char)p[i];
        } else {
            out[at++] = '\\';
            out[at++] = 'x';
            out[at++] = hex[p[i] >> 4];
            out[at++] = hex[p[i] & 15];
        }
    }
    out[at] = '\0';
    return out;
}

const char *log_escape(char *out, size_t size, const void *data, size_t len)
{
    return log_escape_from(out, size, data, len, 0x20);
}

const char *log_escape_word(char *out, size_t size, const void *data, size_t len)
{
    return log_escape_from(out, size, data, len, 0x21);
}
