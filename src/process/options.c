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

static int option_upstream(struct options *options, const char *value, char *err, size_t err_size)
{
    return address_parse(&options->pool.upstream, value, err, err_size);
}

static int option_max_workers(struct options *options, const char *value, char *err,
                              size_t err_size)
{
    unsigned long n;
    if (option_unsigned(value, 1, 1000000, 10, &n, err, err_size) != 0) {
        return -1;
    }
    options->pool.max_workers = (unsigned)n;
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
    {"upstream", "ADDR", option_upstream, 1, "where php-fpm listens"},
    {"max-workers", "N", option_max_workers, 1,
     "requests php-fpm works on at once: its pm.max_children"},
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

enum options_result options_parse(struct options *options, int argc, char **argv)
{
    struct option longs[OPTION_ROWS + 3];
    unsigned seen[OPTION_ROWS] = {0};
    char err[512];
    char text[640];
    int index;

    options_long(longs);
    *options = (struct options){
        .pool = {.listen_mode = 0660, .max_params = 65536},
        .log_level = LOG_NOTICE,
    };
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
    return options_complete(seen, argc, argv);
}
