/*
 * The error log, in php-fpm's format and with its levels:
 *
 *     [21-Nov-2026 10:27:16.123] WARNING: request 42: …
 *
 * Lines are collected and written together: by log_flush, which the event loop calls before it
 * waits, and at once from LOG_ERROR on. Single-threaded, like the event loop.
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

/* The longest line, its LF included; longer ones are cut. */
#define LOG_LINE_MAX 4096

/* fd stays the caller's. Lines less severe than level are dropped. */
void log_open(int fd, enum log_level level);

/* Goes on in this file, which is made if it is not there, with mode 0640 and this owner (-1: as it
 * is). Returns 0 or -errno, then nothing has changed. */
int log_open_file(const char *path, uid_t uid, gid_t gid);

/* Opens log_open_file's file again, which was moved away. */
void log_reopen(void);

/* "alert", "error", "warning", "notice", "debug". Returns 0, or -1 for another name. */
int log_parse_level(const char *name, enum log_level *out);

const char *log_level_name(enum log_level level);

int log_enabled(enum log_level level);

__attribute__((format(printf, 2, 3))) void log_line(enum log_level level, const char *format, ...);

/* Writes what was collected. A log that cannot be written is dropped, never waited for twice. */
void log_flush(void);

/* Makes bytes that a peer sent fit to be logged: quotes, backslashes, control and non-ASCII bytes
 * become \xHH. Writes at most size bytes, terminated; a longer text is cut. Returns out. */
const char *log_escape(char *out, size_t size, const void *data, size_t len);

/* The same for a text that stands without quotes: blanks become \x20 too. */
const char *log_escape_word(char *out, size_t size, const void *data, size_t len);

#endif
