#include "deferd/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef DEFERD_VERSION
#define DEFERD_VERSION "unknown"
#endif

/* Each option: sets its part of options from value. Returns 0, or -1 with what is allowed in err.
 */
typedef int (*option_set)(struct options *options, const char *value, char *err, size_t err_size);

static int option_unsigned(const char *value, unsigned long min, unsigned long max, int base,
                           unsigned long *out, char *err, size_t err_size)
{
    char *rest;
    errno = 0;
    unsigned long n = strtoul(value, &rest, base);
    if (value[0] < '0' || value[0] > '9' || *rest != '\0' || errno != 0 || n < min || n > max) {
        snprintf(err, err_size,
                 base == 8 ? "\"%s\": allowed is an octal number from %lo to %lo"
                           : "\"%s\": allowed is a number from %lu to %lu",
                 value, min, max);
        return -1;
    }
    *out = n;
    return 0;
}

static int option_listen(struct options *options, const char *value, char *err, size_t err_size)
{
    return address_parse(&options->pool.listen, value, err, err_size);
}

static int option_listen_mode(struct options *options, const char *value, char *err,
                              size_t err_size)
{
    unsigned long mode;
    if (option_unsigned(value, 0, 0777, 8, &mode, err, err_size) != 0) {
        return -1;
    }
    options->pool.listen_mode = (mode_t)mode;
    return 0;
}

static int option_max_workers(struct options *options, const char *value, char *err,
                              size_t err_size)
{
    unsigned long n;
    if (option_unsigned(value, 1, 1000000, 10, &n, err, err_size) != 0) {
        return -1;
    }
    options->max_workers = (unsigned)n;
    return 0;
}

/* A number of workers or a percentage of all. */
static int option_share(const char *value, struct share *out, char *err, size_t err_size)
{
    char *rest;
    unsigned long n = strtoul(value, &rest, 10);
    int percent = strcmp(rest, "%") == 0;
    if (value[0] < '0' || value[0] > '9' || (*rest != '\0' && !percent) || n < 1 ||
        n > (percent ? 100 : 1000000)) {
        snprintf(err, err_size, "\"%s\": allowed is a number from 1 to 1000000, or 1%% to 100%%",
                 value);
        return -1;
    }
    *out = (struct share){(unsigned)n, percent};
    return 0;
}

/* A duration in milliseconds: 500ms, 10s, 5m, 1h; a number alone is seconds, as php-fpm has it. */
static int option_duration(const char *value, uint64_t min, uint64_t *out, char *err,
                           size_t err_size)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"", 1000}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    char *rest;
    errno = 0;
    unsigned long n = strtoul(value, &rest, 10);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (value[0] >= '0' && value[0] <= '9' && errno == 0 && n <= 1000000 &&
            strcmp(rest, units[i].name) == 0 && n * units[i].ms >= min) {
            *out = n * units[i].ms;
            return 0;
        }
    }
    snprintf(err, err_size, "\"%s\": allowed is a duration such as 500ms, 10s, 5m or 1h%s", value,
             min == 0 ? ", or 0 for none" : "");
    return -1;
}

/* Splits NAME[,KEY=VALUE]…: calls set for each pair. rest is changed. */
static int option_pairs(char *rest,
                        int (*set)(void *arg, const char *key, const char *value, char *err,
                                   size_t err_size),
                        void *arg, char *err, size_t err_size)
{
    char *pair;
    while ((pair = strsep(&rest, ",")) != NULL) {
        char *equals = strchr(pair, '=');
        if (equals == NULL) {
            snprintf(err, err_size, "\"%s\": KEY=VALUE is wanted here", pair);
            return -1;
        }
        *equals = '\0';
        if (set(arg, pair, equals + 1, err, err_size) != 0) {
            return -1;
        }
    }
    return 0;
}

static int option_upstream_pair(void *arg, const char *key, const char *value, char *err,
                                size_t err_size)
{
    struct upstream_options *upstream = arg;
    unsigned long n;
    if (strcmp(key, "max_workers") != 0) {
        snprintf(err, err_size, "\"%s\": allowed is max_workers", key);
        return -1;
    }
    if (option_unsigned(value, 1, 1000000, 10, &n, err, err_size) != 0) {
        return -1;
    }
    upstream->max_workers = (unsigned)n;
    return 0;
}

static int option_upstream(struct options *options, const char *value, char *err, size_t err_size)
{
    struct pool_options *pool = &options->pool;
    struct upstream_options *upstream = &pool->upstreams[pool->upstream_count];
    char text[ADDRESS_TEXT_MAX];
    if (pool->upstream_count == POOL_UPSTREAMS_MAX || strlen(value) >= sizeof(text)) {
        snprintf(err, err_size, "\"%.100s\": too long, or more than %d upstreams", value,
                 POOL_UPSTREAMS_MAX);
        return -1;
    }
    snprintf(text, sizeof(text), "%s", value);
    char *comma = strchr(text, ',');
    if (comma != NULL) {
        *comma = '\0';
    }
    if (address_parse(&upstream->address, text, err, err_size) != 0 ||
        (comma != NULL &&
         option_pairs(comma + 1, option_upstream_pair, upstream, err, err_size) != 0)) {
        return -1;
    }
    pool->upstream_count++;
    return 0;
}

static int option_class_pair(void *arg, const char *key, const char *value, char *err,
                             size_t err_size)
{
    struct class_options *class = arg;
    if (strcmp(key, "max_workers") == 0) {
        return option_share(value, &class->max_workers, err, err_size);
    }
    if (strcmp(key, "queue_timeout") == 0) {
        return option_duration(value, 1, &class->queue_timeout, err, err_size);
    }
    if (strcmp(key, "priority") == 0) {
        unsigned long n;
        if (option_unsigned(value, 0, 100, 10, &n, err, err_size) != 0) {
            return -1;
        }
        class->priority = (int)n;
        return 0;
    }
    snprintf(err, err_size, "\"%s\": allowed are max_workers, priority and queue_timeout", key);
    return -1;
}

static struct class_options *option_find_class(struct pool_options *pool, const char *name)
{
    for (unsigned i = 0; i < pool->class_count; i++) {
        if (strcmp(pool->classes[i].name, name) == 0) {
            return &pool->classes[i];
        }
    }
    if (pool->class_count == POOL_CLASSES_MAX) {
        return NULL;
    }
    struct class_options *class = &pool->classes[pool->class_count++];
    *class = (struct class_options){.max_workers = {100, 1}};
    snprintf(class->name, sizeof(class->name), "%s", name);
    return class;
}

static int option_class(struct options *options, const char *value, char *err, size_t err_size)
{
    char text[256];
    size_t len = strcspn(value, ",");
    if (len == 0 || len >= CLASS_NAME_MAX || strlen(value) >= sizeof(text)) {
        snprintf(err, err_size, "\"%.100s\": allowed is NAME[,KEY=VALUE]…, NAME of 1 to %d bytes",
                 value, CLASS_NAME_MAX - 1);
        return -1;
    }
    snprintf(text, sizeof(text), "%s", value);
    text[len] = '\0';
    struct class_options *class = option_find_class(&options->pool, text);
    if (class == NULL) {
        snprintf(err, err_size, "more than %d classes", POOL_CLASSES_MAX);
        return -1;
    }
    return value[len] == '\0'
               ? 0
               : option_pairs(text + len + 1, option_class_pair, class, err, err_size);
}

static int option_queue_max(struct options *options, const char *value, char *err, size_t err_size)
{
    unsigned long n;
    if (option_unsigned(value, 0, 1000000, 10, &n, err, err_size) != 0) {
        return -1;
    }
    options->pool.queue_max = (unsigned)n;
    return 0;
}

static int option_queue_timeout(struct options *options, const char *value, char *err,
                                size_t err_size)
{
    return option_duration(value, 1, &options->queue_timeout, err, err_size);
}

static int option_defer_max_workers(struct options *options, const char *value, char *err,
                                    size_t err_size)
{
    return option_share(value, &options->pool.defer_max_workers, err, err_size);
}

static int option_defer_timeout(struct options *options, const char *value, char *err,
                                size_t err_size)
{
    return option_duration(value, 0, &options->pool.defer_timeout, err, err_size);
}

static int option_idle_timeout(struct options *options, const char *value, char *err,
                               size_t err_size)
{
    return option_duration(value, 1, &options->pool.idle_timeout, err, err_size);
}

static int option_keepalive(struct options *options, const char *value, char *err, size_t err_size)
{
    options->pool.keepalive = strcmp(value, "yes") == 0;
    if (!options->pool.keepalive && strcmp(value, "no") != 0) {
        snprintf(err, err_size, "\"%s\": allowed is yes or no", value);
        return -1;
    }
    return 0;
}

static int option_max_params(struct options *options, const char *value, char *err, size_t err_size)
{
    unsigned long n;
    if (option_unsigned(value, 1024, 64UL << 20, 10, &n, err, err_size) != 0) {
        return -1;
    }
    options->pool.max_params = n;
    return 0;
}

static int option_log_level(struct options *options, const char *value, char *err, size_t err_size)
{
    if (log_parse_level(value, &options->log_level) != 0) {
        snprintf(err, err_size, "\"%s\": allowed is alert, error, warning, notice or debug", value);
        return -1;
    }
    return 0;
}

static const struct option_row {
    const char *name;
    const char *argument;
    option_set set;
    int required;
    const char *help;
} option_rows[] = {
    {"listen", "ADDR", option_listen, 1, "where the web server connects to (its fastcgi_pass)"},
    {"listen-mode", "MODE", option_listen_mode, 0,
     "file mode of a unix socket to listen on, octal (default 0660)"},
    {"upstream", "ADDR[,max_workers=N]", option_upstream, 1,
     "where a php-fpm listens; may be given several times"},
    {"max-workers", "N", option_max_workers, 0,
     "requests an upstream without max_workers works on at once: its pm.max_children"},
    {"queue-max", "N", option_queue_max, 0, "requests that may wait (default 1024)"},
    {"queue-timeout", "TIME", option_queue_timeout, 0, "how long one may wait (default 30s)"},
    {"class", "NAME[,KEY=VALUE]...", option_class, 0,
     "a class of requests: max_workers, priority, queue_timeout"},
    {"defer-max-workers", "N|N%", option_defer_max_workers, 0,
     "deferred phases that may be under way at once (default 100%)"},
    {"defer-timeout", "TIME", option_defer_timeout, 0,
     "how long a deferred phase may take (default 0: for ever)"},
    {"upstream-keepalive", "yes|no", option_keepalive, 0,
     "keep connections where that is safe (default yes)"},
    {"upstream-idle-timeout", "TIME", option_idle_timeout, 0,
     "how long a connection is kept unused (default 1s)"},
    {"max-params", "BYTES", option_max_params, 0,
     "params a request may have before it is answered 431 (default 65536)"},
    {"log-level", "LEVEL", option_log_level, 0, "alert, error, warning, notice (default) or debug"},
};

#define OPTION_ROWS (sizeof(option_rows) / sizeof(option_rows[0]))

static void options_help(void)
{
    printf("Usage: deferd --listen ADDR --upstream ADDR --max-workers N [OPTION]...\n"
           "A FastCGI front end for php-fpm: web server -> deferd -> php-fpm.\n\n");
    for (size_t i = 0; i < OPTION_ROWS; i++) {
        char left[40];
        snprintf(left, sizeof(left), "--%s %s", option_rows[i].name, option_rows[i].argument);
        printf("  %-20s  %s\n", left, option_rows[i].help);
    }
    printf("  %-20s  %s\n  %-20s  %s\n\n", "--help", "this text", "--version", "the version");
    printf("ADDR is a path, unix:PATH, HOST:PORT or [V6]:PORT.\n"
           "Signals: TERM and INT end gracefully, a second one at once. See deferd(8).\n");
}

static void options_long(struct option *out)
{
    for (size_t i = 0; i < OPTION_ROWS; i++) {
        out[i] = (struct option){option_rows[i].name, required_argument, NULL, (int)i + 1};
    }
    out[OPTION_ROWS] = (struct option){"help", no_argument, NULL, 'h'};
    out[OPTION_ROWS + 1] = (struct option){"version", no_argument, NULL, 'v'};
    out[OPTION_ROWS + 2] = (struct option){0};
}

static enum options_result options_wrong(const char *text)
{
    fprintf(stderr, "deferd: %s (see deferd --help)\n", text);
    return OPTIONS_WRONG;
}

static enum options_result options_complete(const unsigned *seen, int argc, char **argv)
{
    char text[256];
    if (optind < argc) {
        snprintf(text, sizeof(text), "\"%.200s\" is no option", argv[optind]);
        return options_wrong(text);
    }
    for (size_t i = 0; i < OPTION_ROWS; i++) {
        if (option_rows[i].required && !seen[i]) {
            snprintf(text, sizeof(text), "--%s %s is missing", option_rows[i].name,
                     option_rows[i].argument);
            return options_wrong(text);
        }
    }
    return OPTIONS_RUN;
}

/* What stands for options that were not given, where that depends on others. */
static enum options_result options_fill(struct options *options)
{
    struct pool_options *pool = &options->pool;
    for (unsigned i = 0; i < pool->upstream_count; i++) {
        if (pool->upstreams[i].max_workers == 0) {
            pool->upstreams[i].max_workers = options->max_workers;
        }
        if (pool->upstreams[i].max_workers == 0) {
            return options_wrong("--max-workers N is missing");
        }
    }
    for (unsigned i = 0; i < pool->class_count; i++) {
        if (pool->classes[i].queue_timeout == 0) {
            pool->classes[i].queue_timeout = options->queue_timeout;
        }
    }
    return OPTIONS_RUN;
}

enum options_result options_parse(struct options *options, int argc, char **argv)
{
    struct option longs[OPTION_ROWS + 3];
    unsigned seen[OPTION_ROWS] = {0};
    char err[512];
    char text[640];
    int index;

    options_long(longs);
    *options = (struct options){
        .pool = {.listen_mode = 0660,
                 .max_params = 65536,
                 .queue_max = 1024,
                 .defer_max_workers = {100, 1},
                 .idle_timeout = 1000,
                 .keepalive = 1},
        .queue_timeout = 30000,
        .log_level = LOG_NOTICE,
    };
    option_find_class(&options->pool, "default");
    while ((index = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (index == 'h') {
            options_help();
            return OPTIONS_DONE;
        }
        if (index == 'v') {
            printf("deferd %s\n", DEFERD_VERSION);
            return OPTIONS_DONE;
        }
        if (index < 1 || index > (int)OPTION_ROWS) {
            return options_wrong("wrong usage");
        }
        const struct option_row *row = &option_rows[index - 1];
        if (row->set(options, optarg, err, sizeof(err)) != 0) {
            snprintf(text, sizeof(text), "--%s: %s", row->name, err);
            return options_wrong(text);
        }
        seen[index - 1] = 1;
    }
    enum options_result result = options_complete(seen, argc, argv);
    return result == OPTIONS_RUN ? options_fill(options) : result;
}
