/*
 * The error log, in php-fpm's format and with its levels:
 *
 *     [21-Nov-2026 10:27:16.123] WARNING: request 42: …
 *
 * or as an object of JSON a line:
 *
 *     {"time":"2026-11-21T10:27:16.123+01:00","level":"warning","pid":7,"request":42,"message":"…"}
 *
 * Lines are collected and written together: by log_flush, which the event loop calls before it
 * waits, and at once from LOG_ERROR on. Nothing waits for a log that cannot be written: lines that
 * find no room are dropped, and their number is logged when there is room again. Single-threaded,
 * like the event loop.
 */
#ifndef DEFERD_LOG_H
#define DEFERD_LOG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum log_level {
    LOG_ALERT,
    LOG_ERROR,
    LOG_WARNING,
    LOG_NOTICE,
    LOG_DEBUG,
};

enum log_format {
    LOG_TEXT,
    LOG_JSON,
};

/* The longest line, its LF included; longer ones are cut. */
#define LOG_LINE_MAX 4096

/* fd stays the caller's. Lines less severe than level are dropped. */
void log_open(int fd, enum log_level level);

/* Goes on in this file, which is made if it is not there, with mode 0640 and this owner (-1: as it
 * is). Returns 0 or -errno, then nothing has changed. */
int log_open_file(const char *path, uid_t uid, gid_t gid);

/* Goes on to the syslog daemon behind this socket, as log_syslog says. Returns 0 or -errno, then
 * nothing has changed. */
int log_open_syslog(const char *socket);

/* What syslog gets with each line: who speaks (at most 31 bytes), and the facility's number. */
void log_syslog(const char *ident, int facility);

/* Opens log_open_file's file again, which was moved away. */
void log_reopen(void);

void log_set_level(enum log_level level);
void log_set_format(enum log_format format);

/* "alert", "error", "warning", "notice", "debug". Returns 0, or -1 for another name. */
int log_parse_level(const char *name, enum log_level *out);

const char *log_level_name(enum log_level level);

/* "daemon", "local0", … Returns 0, or -1 for another name. */
int log_parse_facility(const char *name, int *out);

const char *log_facility_name(int facility);

int log_enabled(enum log_level level);

/* A text that begins with "request N: " speaks of that request: in JSON it is its "request". */
__attribute__((format(printf, 2, 3))) void log_line(enum log_level level, const char *format, ...);

/* Writes what was collected. Returns how many bytes could not be written yet. */
size_t log_flush(void);

/* The same, at the process's end: a slow reader gets a last moment. */
void log_close(void);

/* "[21-Nov-2026 10:27:16.123]". Returns its length. */
size_t log_stamp(char *out, size_t size);

/* Makes bytes that a peer sent fit to be logged: quotes, backslashes, control and non-ASCII bytes
 * become \xHH. Writes at most size bytes, terminated; a longer text is cut. Returns out. */
const char *log_escape(char *out, size_t size, const void *data, size_t len);

/* The same for a text that stands without quotes: blanks become \x20 too. */
const char *log_escape_word(char *out, size_t size, const void *data, size_t len);

#endif
