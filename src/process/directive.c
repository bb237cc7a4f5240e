#include "deferd/directive.h"

#include "deferd/client_list.h"
#include "deferd/config.h"
#include "deferd/format.h"
#include "deferd/log.h"
#include "deferd/pool.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- kinds of values -------------------------------------------------------------------------- */

/* A number in this base at the start of value. Returns 0, with the rest behind it in *rest, or -1.
 */
static int value_number(const char *value, int base, uint64_t *out, const char **rest)
{
    char *end;
    errno = 0;
    *out = strtoull(value, &end, base);
    *rest = end;
    return value[0] >= '0' && value[0] <= '9' && errno == 0 ? 0 : -1;
}

static int number_set(const struct directive *directive, void *field, const char *value, char *err,
                      size_t err_size)
{
    uint64_t n;
    const char *rest;
    if (value_number(value, 10, &n, &rest) != 0 || *rest != '\0' || n < directive->min ||
        n > directive->max) {
        snprintf(err, err_size, "allowed is a number from %llu to %llu",
                 (unsigned long long)directive->min, (unsigned long long)directive->max);
        return -1;
    }
    *(unsigned *)field = (unsigned)n;
    return 0;
}

static void number_print(const struct directive *directive, const void *field, char *out,
                         size_t size)
{
    (void)directive;
    snprintf(out, size, "%u", *(const unsigned *)field);
}

static int mode_set(const struct directive *directive, void *field, const char *value, char *err,
                    size_t err_size)
{
    uint64_t n;
    const char *rest;
    (void)directive;
    if (value_number(value, 8, &n, &rest) != 0 || *rest != '\0' || n > 0777) {
        snprintf(err, err_size, "allowed is an octal number from 0 to 777");
        return -1;
    }
    *(mode_t *)field = (mode_t)n;
    return 0;
}

static void mode_print(const struct directive *directive, const void *field, char *out, size_t size)
{
    (void)directive;
    snprintf(out, size, "%04o", (unsigned)*(const mode_t *)field);
}

struct value_unit {
    const char *name;
    uint64_t factor;
};

/* The last one whose factor divides a value prints it, so the list is in order. */
static const struct value_unit size_units[] = {{"", 1}, {"K", 1024}, {"M", 1048576}};
static const struct value_unit time_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
};

static int value_with_unit(const char *value, const struct value_unit *units, size_t count,
                           const struct directive *directive, uint64_t *out)
{
    uint64_t n;
    const char *rest;
    if (value_number(value, 10, &n, &rest) != 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(rest, units[i].name) == 0 && n <= directive->max / units[i].factor &&
            n * units[i].factor >= directive->min) {
            *out = n * units[i].factor;
            return 0;
        }
    }
    return -1;
}

static void value_print_unit(uint64_t n, const struct value_unit *units, size_t count, char *out,
                             size_t size)
{
    size_t best = 0;
    for (size_t i = 0; i < count; i++) {
        if (n > 0 && n % units[i].factor == 0) {
            best = i;
        }
    }
    snprintf(out, size, "%llu%s", (unsigned long long)(n / units[best].factor),
             n > 0 ? units[best].name : "");
}

#define UNITS(list) (list), sizeof(list) / sizeof((list)[0])

static int size_set(const struct directive *directive, void *field, const char *value, char *err,
                    size_t err_size)
{
    uint64_t n;
    if (value_with_unit(value, UNITS(size_units), directive, &n) != 0) {
        char min[32];
        char max[32];
        value_print_unit(directive->min, UNITS(size_units), min, sizeof(min));
        value_print_unit(directive->max, UNITS(size_units), max, sizeof(max));
        snprintf(err, err_size, "allowed is a size from %s to %s, such as 4096, 64K or 1M", min,
                 max);
        return -1;
    }
    *(size_t *)field = n;
    return 0;
}

static void size_print(const struct directive *directive, const void *field, char *out, size_t size)
{
    (void)directive;
    value_print_unit(*(const size_t *)field, UNITS(size_units), out, size);
}

/* A number alone is seconds, as in php-fpm. */
static int time_set(const struct directive *directive, void *field, const char *value, char *err,
                    size_t err_size)
{
    char seconds[64];
    if (value[0] != '\0' && strspn(value, "0123456789") == strlen(value) && strlen(value) < 32) {
        snprintf(seconds, sizeof(seconds), "%ss", value);
        value = seconds;
    }
    if (value_with_unit(value, UNITS(time_units), directive, field) != 0) {
        char min[32];
        char max[32];
        value_print_unit(directive->min, UNITS(time_units), min, sizeof(min));
        value_print_unit(directive->max, UNITS(time_units), max, sizeof(max));
        snprintf(err, err_size, "allowed is a duration from %s to %s, such as 500ms, 10s, 5m or 1h",
                 min, max);
        return -1;
    }
    return 0;
}

static void time_print(const struct directive *directive, const void *field, char *out, size_t size)
{
    (void)directive;
    value_print_unit(*(const uint64_t *)field, UNITS(time_units), out, size);
}

static int share_set(const struct directive *directive, void *field, const char *value, char *err,
                     size_t err_size)
{
    uint64_t n;
    const char *rest;
    int wrong = value_number(value, 10, &n, &rest) != 0;
    int percent = !wrong && strcmp(rest, "%") == 0;
    if (wrong || (*rest != '\0' && !percent) || n < 1 || n > (percent ? 100 : directive->max)) {
        snprintf(err, err_size, "allowed is a number from 1 to %llu, or 1%% to 100%%",
                 (unsigned long long)directive->max);
        return -1;
    }
    *(struct share *)field = (struct share){(unsigned)n, percent};
    return 0;
}

static void share_print(const struct directive *directive, const void *field, char *out,
                        size_t size)
{
    const struct share *share = field;
    (void)directive;
    snprintf(out, size, "%u%s", share->number, share->percent ? "%" : "");
}

static int bool_set(const struct directive *directive, void *field, const char *value, char *err,
                    size_t err_size)
{
    static const char *const yes[] = {"yes", "on", "true", "1"};
    static const char *const no[] = {"no", "off", "false", "0"};
    (void)directive;
    for (size_t i = 0; i < 4; i++) {
        if (strcasecmp(value, yes[i]) == 0 || strcasecmp(value, no[i]) == 0) {
            *(int *)field = strcasecmp(value, yes[i]) == 0;
            return 0;
        }
    }
    snprintf(err, err_size, "allowed is yes or no");
    return -1;
}

static void bool_print(const struct directive *directive, const void *field, char *out, size_t size)
{
    (void)directive;
    snprintf(out, size, "%s", *(const int *)field ? "yes" : "no");
}

static int text_set(const struct directive *directive, void *field, const char *value, char *err,
                    size_t err_size)
{
    if (strlen(value) >= directive->max) {
        snprintf(err, err_size, "allowed are at most %llu bytes",
                 (unsigned long long)directive->max - 1);
        return -1;
    }
    snprintf(field, directive->max, "%s", value);
    return 0;
}

static void text_print(const struct directive *directive, const void *field, char *out, size_t size)
{
    (void)directive;
    snprintf(out, size, "%s", (const char *)field);
}

static int path_set(const struct directive *directive, void *field, const char *value, char *err,
                    size_t err_size)
{
    if (value[0] != '\0' && value[0] != '/') {
        snprintf(err, err_size, "allowed is an absolute path");
        return -1;
    }
    return text_set(directive, field, value, err, err_size);
}

/* What a web server calls a script. */
static int uri_set(const struct directive *directive, void *field, const char *value, char *err,
                   size_t err_size)
{
    if (value[0] != '\0' && value[0] != '/') {
        snprintf(err, err_size, "allowed is a path that begins with /, such as /status");
        return -1;
    }
    return text_set(directive, field, value, err, err_size);
}

static int errorlog_set(const struct directive *directive, void *field, const char *value,
                        char *err, size_t err_size)
{
    if (value[0] != '\0' && value[0] != '/' && strcmp(value, "stderr") != 0 &&
        strcmp(value, "syslog") != 0) {
        snprintf(err, err_size, "allowed is an absolute path, stderr or syslog");
        return -1;
    }
    return text_set(directive, field, value, err, err_size);
}

static int user_set(const struct directive *directive, void *field, const char *value, char *err,
                    size_t err_size)
{
    if (value[0] != '\0' && getpwnam(value) == NULL) {
        snprintf(err, err_size, "allowed is the name of a user; there is no such user");
        return -1;
    }
    return text_set(directive, field, value, err, err_size);
}

static int group_set(const struct directive *directive, void *field, const char *value, char *err,
                     size_t err_size)
{
    if (value[0] != '\0' && getgrnam(value) == NULL) {
        snprintf(err, err_size, "allowed is the name of a group; there is no such group");
        return -1;
    }
    return text_set(directive, field, value, err, err_size);
}

static int pattern_set(const struct directive *directive, void *field, const char *value, char *err,
                       size_t err_size)
{
    char why[256];
    struct format *format;
    if (value[0] == '\0' || format_compile(&format, value, why, sizeof(why)) != 0) {
        snprintf(err, err_size, "allowed is a format of access log lines; %s",
                 value[0] != '\0' ? why : "it is empty");
        return -1;
    }
    format_free(format);
    return text_set(directive, field, value, err, err_size);
}

static int clients_set(const struct directive *directive, void *field, const char *value, char *err,
                       size_t err_size)
{
    (void)directive;
    return client_list_parse(field, value, err, err_size);
}

static void clients_print(const struct directive *directive, const void *field, char *out,
                          size_t size)
{
    (void)directive;
    client_list_print(field, out, size);
}

static int facility_set(const struct directive *directive, void *field, const char *value,
                        char *err, size_t err_size)
{
    (void)directive;
    if (log_parse_facility(value, field) != 0) {
        snprintf(err, err_size,
                 "allowed is a facility of syslog: daemon, user, local0 to local7 or another");
        return -1;
    }
    return 0;
}

static void facility_print(const struct directive *directive, const void *field, char *out,
                           size_t size)
{
    (void)directive;
    snprintf(out, size, "%s", log_facility_name(*(const int *)field));
}

static int logformat_set(const struct directive *directive, void *field, const char *value,
                         char *err, size_t err_size)
{
    (void)directive;
    if (strcmp(value, "text") != 0 && strcmp(value, "json") != 0) {
        snprintf(err, err_size, "allowed is text or json");
        return -1;
    }
    *(enum log_format *)field = value[0] == 'j' ? LOG_JSON : LOG_TEXT;
    return 0;
}

static void logformat_print(const struct directive *directive, const void *field, char *out,
                            size_t size)
{
    (void)directive;
    snprintf(out, size, "%s", *(const enum log_format *)field == LOG_JSON ? "json" : "text");
}

static int level_set(const struct directive *directive, void *field, const char *value, char *err,
                     size_t err_size)
{
    (void)directive;
    if (log_parse_level(value, field) != 0) {
        snprintf(err, err_size, "allowed is alert, error, warning, notice or debug");
        return -1;
    }
    return 0;
}

static void level_print(const struct directive *directive, const void *field, char *out,
                        size_t size)
{
    (void)directive;
    snprintf(out, size, "%s", log_level_name(*(const enum log_level *)field));
}

static int address_set(const struct directive *directive, void *field, const char *value, char *err,
                       size_t err_size)
{
    if (value[0] == '\0' && directive->initial != NULL) {
        *(struct address *)field = (struct address){0}; /* it need not be set */
        return 0;
    }
    return address_parse(field, value, err, err_size);
}

static void address_print(const struct directive *directive, const void *field, char *out,
                          size_t size)
{
    (void)directive;
    snprintf(out, size, "%s", ((const struct address *)field)->text);
}

static void address_hand_on(const struct directive *directive, const void *field, char *out,
                            size_t size)
{
    (void)directive;
    address_print_resolved(field, out, size);
}

static const struct directive_type type_number = {number_set, number_print, "N", NULL};
static const struct directive_type type_mode = {mode_set, mode_print, "MODE", NULL};
static const struct directive_type type_size = {size_set, size_print, "SIZE", NULL};
static const struct directive_type type_time = {time_set, time_print, "TIME", NULL};
static const struct directive_type type_share = {share_set, share_print, "N|N%", NULL};
static const struct directive_type type_bool = {bool_set, bool_print, "yes|no", NULL};
static const struct directive_type type_text = {text_set, text_print, "TEXT", NULL};
static const struct directive_type type_path = {path_set, text_print, "PATH", NULL};
static const struct directive_type type_uri = {uri_set, text_print, "PATH", NULL};
static const struct directive_type type_level = {level_set, level_print, "LEVEL", NULL};
static const struct directive_type type_address = {address_set, address_print, "ADDR",
                                                   address_hand_on};
static const struct directive_type type_errorlog = {errorlog_set, text_print, "PATH|syslog|stderr",
                                                    NULL};
static const struct directive_type type_logformat = {logformat_set, logformat_print, "text|json",
                                                     NULL};
static const struct directive_type type_facility = {facility_set, facility_print, "FACILITY", NULL};
static const struct directive_type type_user = {user_set, text_print, "USER", NULL};
static const struct directive_type type_group = {group_set, text_print, "GROUP", NULL};
static const struct directive_type type_pattern = {pattern_set, text_print, "FORMAT", NULL};
static const struct directive_type type_clients = {clients_set, clients_print, "ADDR,...", NULL};
static const struct directive_type type_fpmpool = {path_set, NULL, "FILE", NULL};

/* --- the table -------------------------------------------------------------------------------- */

#define GLOBAL(field)   offsetof(struct global_options, field)
#define POOL(field)     offsetof(struct pool_options, field)
#define UPSTREAM(field) offsetof(struct upstream_options, field)
#define CLASS(field)    offsetof(struct class_options, field)

#define DIRECTIVE_ACCESS_FORMAT                                                                    \
    "%R - %u [%t] \"%m %r%Q%q\" %s request=%{id}x class=%{class}x queue_ms=%{queue}x "             \
    "response_ms=%{response}x deferred_ms=%{deferred}x done=%{done}x failed=%{failed}x "           \
    "skipped=%{skipped}x outcome=%{outcome}x pid=%p tasks=\"%{tasks}x\""

#define WORKERS_MAX 1000000
#define HOUR        3600000ULL
#define DAY         (24 * HOUR)

const struct directive directives[] = {
    {DIRECTIVE_GLOBAL, "error_log", &type_errorlog, GLOBAL(error_log), 0, 256, "",
     "where the error log goes: a file, syslog, or stderr, which it is if empty"},
    {DIRECTIVE_GLOBAL, "log_level", &type_level, GLOBAL(log_level), 0, 0, "notice",
     "the least severe lines to log: alert, error, warning, notice or debug"},
    {DIRECTIVE_GLOBAL, "log_format", &type_logformat, GLOBAL(log_format), 0, 0, "text",
     "the error log's lines: text, or an object of JSON each"},
    {DIRECTIVE_GLOBAL, "syslog.facility", &type_facility, GLOBAL(syslog_facility), 0, 0, "daemon",
     "which part of the system the lines in syslog come from"},
    {DIRECTIVE_GLOBAL, "syslog.ident", &type_text, GLOBAL(syslog_ident), 0, 32, "deferd",
     "the name in front of them"},
    {DIRECTIVE_GLOBAL, "syslog.socket", &type_path, GLOBAL(syslog_socket), 0, 108, "/dev/log",
     "where the syslog daemon listens"},
    {DIRECTIVE_GLOBAL, "metrics.listen", &type_address, GLOBAL(metrics_listen), 0, 0, "",
     "where Prometheus finds GET /metrics by plain HTTP; nowhere if empty"},
    {DIRECTIVE_GLOBAL, "rlimit_files", &type_number, GLOBAL(rlimit_files), 0, 1 << 30, "0",
     "limit of open files; 0 takes as many as are allowed"},
    {DIRECTIVE_GLOBAL, "shutdown_timeout", &type_time, GLOBAL(shutdown_timeout), 0, 30 * DAY, "0",
     "how long requests and deferred phases may take to end after QUIT or a reload; 0 waits for "
     "all"},
    {DIRECTIVE_GLOBAL, "terminate_timeout", &type_time, GLOBAL(terminate_timeout), 0, 30 * DAY,
     "10s", "the same after TERM or INT"},
    {DIRECTIVE_GLOBAL, "hang_timeout", &type_time, GLOBAL(hang_timeout), 0, HOUR, "20s",
     "how long a worker may give no sign of life before the master kills and replaces it; 0 is for "
     "ever"},
    {DIRECTIVE_GLOBAL, "pid", &type_path, GLOBAL(pid), 0, 256, "", "file for the master's pid"},
    {DIRECTIVE_GLOBAL, "daemonize", &type_bool, GLOBAL(daemonize), 0, 0, "no",
     "go into the background once all is ready; needs an error_log, a file or syslog"},
    {DIRECTIVE_GLOBAL, "user", &type_user, GLOBAL(user), 0, 64, "",
     "user the worker runs as, if the master is root; otherwise it is ignored, with a warning"},
    {DIRECTIVE_GLOBAL, "group", &type_group, GLOBAL(group), 0, 64, "",
     "its group; the user's own if empty; without user, the worker stays root, in this group "
     "alone"},
    {DIRECTIVE_GLOBAL, "control", &type_path, GLOBAL(control), 0, 108, "",
     "unix socket for deferctl; none if empty"},
    {DIRECTIVE_GLOBAL, "control.mode", &type_mode, GLOBAL(control_mode), 0, 0, "0660",
     "its file mode, octal"},
    {DIRECTIVE_GLOBAL, "control.group", &type_group, GLOBAL(control_group), 0, 64, "",
     "its group, which may do all that deferctl does; who starts deferd if empty"},
    {DIRECTIVE_GLOBAL, "control.readonly", &type_path, GLOBAL(readonly), 0, 108, "",
     "a second socket, on which deferctl can look and change nothing; none if empty"},
    {DIRECTIVE_GLOBAL, "control.readonly.mode", &type_mode, GLOBAL(readonly_mode), 0, 0, "0660",
     "its file mode, octal"},
    {DIRECTIVE_GLOBAL, "control.readonly.group", &type_group, GLOBAL(readonly_group), 0, 64, "",
     "its group"},
    {DIRECTIVE_GLOBAL, "stop_dir", &type_path, GLOBAL(stop_dir), 0, 81, "",
     "directory for the files that tell deferred phases to stop; if empty, they cannot be told"},

    {DIRECTIVE_POOL, "listen", &type_address, POOL(listen), 0, 0, NULL,
     "where the web server connects to (its fastcgi_pass)"},
    {DIRECTIVE_POOL, "listen.mode", &type_mode, POOL(listen_mode), 0, 0, "0660",
     "file mode of a unix socket to listen on, octal"},
    {DIRECTIVE_POOL, "listen.owner", &type_user, POOL(listen_owner), 0, 64, "",
     "owner of that socket; who starts deferd if empty"},
    {DIRECTIVE_POOL, "listen.group", &type_group, POOL(listen_group), 0, 64, "",
     "group of that socket"},
    {DIRECTIVE_POOL, "listen.backlog", &type_number, POOL(listen_backlog), 1, 65535, "4096",
     "connections that may wait to be accepted; the kernel caps it at net.core.somaxconn"},
    {DIRECTIVE_POOL, "listen.allowed_clients", &type_clients, POOL(allowed_clients), 0, 0, "",
     "the machines that may connect over TCP, separated by commas; all if empty"},
    {DIRECTIVE_POOL, "status_path", &type_uri, POOL(status_path), 0, 256, "",
     "SCRIPT_NAME at which deferd itself shows its status; none if empty"},
    {DIRECTIVE_POOL, "ping.path", &type_uri, POOL(ping_path), 0, 256, "",
     "SCRIPT_NAME at which deferd itself answers a ping; none if empty"},
    {DIRECTIVE_POOL, "ping.response", &type_text, POOL(ping_response), 0, 256, "pong",
     "what it answers"},
    {DIRECTIVE_POOL, "max_params", &type_size, POOL(max_params), 1024, 64ULL << 20, "64K",
     "params a request may have before it is answered 431"},
    {DIRECTIVE_POOL, "upstream.max_workers", &type_number, POOL(max_workers), 1, WORKERS_MAX, NULL,
     "requests that an upstream which does not say works on at once: its pm.max_children"},
    {DIRECTIVE_POOL, "upstream.keepalive", &type_bool, POOL(keepalive), 0, 0, "yes",
     "keep connections to php-fpm where that is safe"},
    {DIRECTIVE_POOL, "upstream.idle_timeout", &type_time, POOL(idle_timeout), 1, HOUR, "1s",
     "how long a connection to php-fpm is kept unused"},
    {DIRECTIVE_POOL, "upstream.fpm_pid", &type_path, POOL(fpm_pid), 0, 256, "",
     "php-fpm's pid file, for deferctl's fpm-reload, and for stop --force over TCP; no symbolic "
     "link, "
     "and root's, or of the user that this php-fpm runs as"},
    {DIRECTIVE_POOL, "queue.max", &type_number, POOL(queue_max), 0, 1000000, "1024",
     "requests that may wait for a worker"},
    {DIRECTIVE_POOL, "queue.timeout", &type_time, POOL(queue_timeout), 1, DAY, "30s",
     "how long one may wait"},
    {DIRECTIVE_POOL, "defer.max_workers", &type_share, POOL(defer_max_workers), 1, WORKERS_MAX,
     "100%", "deferred phases that may be under way at once"},
    {DIRECTIVE_POOL, "defer.timeout", &type_time, POOL(defer_timeout), 0, 30 * DAY, "0",
     "how long a deferred phase may take; 0 is for ever"},
    {DIRECTIVE_POOL, "access.log", &type_path, POOL(access_log), 0, 256, "",
     "file with a line for each request; without it, the error log has those"},
    {DIRECTIVE_POOL, "access.format", &type_pattern, POOL(access_format), 0, 1024,
     DIRECTIVE_ACCESS_FORMAT, "its lines"},
    {DIRECTIVE_POOL, "slowlog", &type_path, POOL(slowlog), 0, 256, "",
     "file with a line for each deferred phase that takes longer than the next one says"},
    {DIRECTIVE_POOL, "defer_slowlog_timeout", &type_time, POOL(slowlog_timeout), 0, 30 * DAY, "0",
     "when a deferred phase is slow; 0 is never"},

    {DIRECTIVE_UPSTREAM, "", &type_address, UPSTREAM(address), 0, 0, NULL,
     "where a php-fpm listens"},
    {DIRECTIVE_UPSTREAM, "fpm_pool", &type_fpmpool, UPSTREAM(fpm_pool), 0, 256, NULL,
     "the file of php-fpm's that says so, and pm.max_children"},
    {DIRECTIVE_UPSTREAM, "max_workers", &type_number, UPSTREAM(max_workers), 1, WORKERS_MAX, NULL,
     "requests it works on at once: its pm.max_children"},

    {DIRECTIVE_CLASS, "max_workers", &type_share, CLASS(max_workers), 1, WORKERS_MAX, "100%",
     "workers the class may hold at once"},
    {DIRECTIVE_CLASS, "priority", &type_number, CLASS(priority), 0, 100, "0",
     "the class with the higher one goes first"},
    {DIRECTIVE_CLASS, "queue.timeout", &type_time, CLASS(queue_timeout), 1, DAY, NULL,
     "how long its requests may wait; queue.timeout if it is not said"},
};

const unsigned directive_count = sizeof(directives) / sizeof(directives[0]);

const struct directive *directive_find(enum directive_scope scope, const char *name)
{
    for (unsigned i = 0; i < directive_count; i++) {
        if (directives[i].scope == scope && strcmp(directives[i].name, name) == 0) {
            return &directives[i];
        }
    }
    return NULL;
}

int directive_set(const struct directive *directive, void *base, const char *value, char *err,
                  size_t err_size)
{
    return directive->type->set(directive, (char *)base + directive->offset, value, err, err_size);
}

void directive_print(const struct directive *directive, const void *base, int hand_on, char *out,
                     size_t size)
{
    const struct directive_type *type = directive->type;
    const void *field = (const char *)base + directive->offset;
    (hand_on && type->hand_on != NULL ? type->hand_on : type->print)(directive, field, out, size);
}

void directive_defaults(enum directive_scope scope, void *base)
{
    char err[256];
    for (unsigned i = 0; i < directive_count; i++) {
        if (directives[i].scope == scope && directives[i].initial != NULL) {
            directive_set(&directives[i], base, directives[i].initial, err, sizeof(err));
        }
    }
}
