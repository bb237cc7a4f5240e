#include "deferd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *const log_names[] = {
    [LOG_ALERT] = "alert",   [LOG_ERROR] = "error", [LOG_WARNING] = "warning",
    [LOG_NOTICE] = "notice", [LOG_DEBUG] = "debug",
};

static const char *const log_labels[] = {
    [LOG_ALERT] = "ALERT",   [LOG_ERROR] = "ERROR", [LOG_WARNING] = "WARNING",
    [LOG_NOTICE] = "NOTICE", [LOG_DEBUG] = "DEBUG",
};

static struct {
    int fd;
    enum log_level level;
    char path[256]; /* of the file that fd is; empty if fd is somebody else's */
    uid_t uid;      /* its owner, -1: as it is */
    gid_t gid;
    time_t second; /* the second that stamp shows */
    char stamp[32];
    size_t used;
    char buffer[16 * LOG_LINE_MAX];
} log_state = {.fd = STDERR_FILENO, .level = LOG_NOTICE, .second = -1};

void log_open(int fd, enum log_level level)
{
    log_flush();
    log_state.fd = fd;
    log_state.level = level;
}

int log_open_file(const char *path, uid_t uid, gid_t gid)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0) {
        return -errno;
    }
    /* One that logrotate has made for this user keeps its group, which may be who reads it. */
    struct stat made;
    int owned = uid != (uid_t)-1 && fstat(fd, &made) == 0 && made.st_uid == uid;
    if (!owned && (uid != (uid_t)-1 || gid != (gid_t)-1) && fchown(fd, uid, gid) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    log_flush();
    if (log_state.path[0] != '\0') {
        close(log_state.fd);
    }
    snprintf(log_state.path, sizeof(log_state.path), "%s", path);
    log_state.uid = uid;
    log_state.gid = gid;
    log_state.fd = fd;
    return 0;
}

void log_reopen(void)
{
    if (log_state.path[0] == '\0') {
        return;
    }
    char path[sizeof(log_state.path)];
    snprintf(path, sizeof(path), "%s", log_state.path);
    int rc = log_open_file(path, log_state.uid, log_state.gid);
    if (rc != 0) {
        log_line(LOG_ERROR, "cannot open %s again: %s; the log goes on in the old file", path,
                 strerror(-rc));
    }
}

int log_parse_level(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < sizeof(log_names) / sizeof(log_names[0]); i++) {
        if (strcmp(name, log_names[i]) == 0) {
            *out = (enum log_level)i;
            return 0;
        }
    }
    return -1;
}

const char *log_level_name(enum log_level level)
{
    return log_names[level];
}

int log_enabled(enum log_level level)
{
    return level <= log_state.level;
}

void log_flush(void)
{
    size_t at = 0;
    while (at < log_state.used) {
        ssize_t n = write(log_state.fd, log_state.buffer + at, log_state.used - at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        at += (size_t)n;
    }
    log_state.used = 0;
}

static const char *log_stamp(time_t second)
{
    if (second != log_state.second) {
        struct tm tm;
        localtime_r(&second, &tm);
        strftime(log_state.stamp, sizeof(log_state.stamp), "%d-%b-%Y %H:%M:%S", &tm);
        log_state.second = second;
    }
    return log_state.stamp;
}

void log_line(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level)) {
        return;
    }
    if (sizeof(log_state.buffer) - log_state.used < LOG_LINE_MAX) {
        log_flush();
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char *line = log_state.buffer + log_state.used;
    int n = snprintf(line, LOG_LINE_MAX, "[%s.%03d] %s: ", log_stamp(now.tv_sec),
                     (int)(now.tv_nsec / 1000000), log_labels[level]);
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, LOG_LINE_MAX - (size_t)n, format, args);
    va_end(args);
    size_t len = (size_t)n + (m > 0 ? (size_t)m : 0);
    if (len > LOG_LINE_MAX - 1) {
        len = LOG_LINE_MAX - 1;
    }
    line[len] = '\n';
    log_state.used += len + 1;
    if (level <= LOG_ERROR) {
        log_flush();
    }
}

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
