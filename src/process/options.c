/*
 * The command line: a configuration file with overrides, or flags, which are the directives of one
 * pool by other names: queue.max is --queue-max.
 */
#include "deferd/options.h"

#include "deferd/directive.h"
#include "deferd/fpmconf.h"
#include "deferd/handover.h"
#include "deferd/manual.h"
#include "deferd/metrics.h"
#include "deferd/sockets.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef DEFERD_VERSION
#define DEFERD_VERSION "unknown"
#endif

/* The pool that flags make. */
#define OPTIONS_POOL "www"

#define OPTIONS_SHORT "c:o:tThv"

/* Room for the long options that are no directives, and for the end of the list. */
#define OPTIONS_LONGS 16

/* Values getopt_long returns for long options: directives by their index behind these. */
enum options_long {
    OPTIONS_UPSTREAM = 1000,
    OPTIONS_CLASS,
    OPTIONS_WORKER,
    OPTIONS_PRINT_DIRECTIVES,
    OPTIONS_CHECK,
    OPTIONS_FPM_ROOT,
    OPTIONS_PRINT_MAN,
    OPTIONS_PRINT_SAMPLE,
    OPTIONS_PRINT_METRICS,
    OPTIONS_DIRECTIVES,
};

struct options_state {
    struct options *options;
    unsigned upstreams;
    unsigned flags; /* how many directives were given as flags */
    int test;
    int dump;
};

/* --- flags ------------------------------------------------------------------------------------ */

static int options_is_flag(const struct directive *directive)
{
    return directive->scope == DIRECTIVE_GLOBAL || directive->scope == DIRECTIVE_POOL;
}

/* upstream.max_workers is --max-workers; otherwise . and _ become -. */
static void options_flag_name(const struct directive *directive, char *out, size_t size)
{
    const char *name = directive->name;
    snprintf(out, size, "%s", strcmp(name, "upstream.max_workers") == 0 ? "max-workers" : name);
    for (char *p = out; *p != '\0'; p++) {
        if (*p == '.' || *p == '_') {
            *p = '-';
        }
    }
}

/* KEY=VALUE,… behind the first comma, each a directive named PREFIX.KEY. Changes pairs. */
static void options_pairs(struct options_state *state, const char *flag, const char *prefix,
                          char *pairs)
{
    char name[128];
    char *pair;
    while ((pair = strsep(&pairs, ",")) != NULL) {
        char *equals = strchr(pair, '=');
        if (equals != NULL) {
            *equals = '\0';
        }
        snprintf(name, sizeof(name), "%s.%s", prefix,
                 strcmp(pair, "queue_timeout") == 0 ? "queue.timeout" : pair);
        config_set(&state->options->config, flag, OPTIONS_POOL, name,
                   equals != NULL ? equals + 1 : "");
    }
}

/* --upstream ADDR[,max_workers=N] */
static void options_upstream(struct options_state *state, const char *value)
{
    char text[512];
    char name[32];
    snprintf(text, sizeof(text), "%s", value);
    snprintf(name, sizeof(name), "upstream[%u]", ++state->upstreams);
    char *comma = strchr(text, ',');
    if (comma != NULL) {
        *comma = '\0';
    }
    config_set(&state->options->config, "--upstream", OPTIONS_POOL, name, text);
    if (comma != NULL) {
        options_pairs(state, "--upstream", name, comma + 1);
    }
}

/* --class NAME[,KEY=VALUE]... */
static void options_class(struct options_state *state, const char *value)
{
    char text[512];
    char name[128];
    snprintf(text, sizeof(text), "%s", value);
    char *comma = strchr(text, ',');
    if (comma != NULL) {
        *comma = '\0';
    }
    snprintf(name, sizeof(name), "class[%.64s]", text);
    if (comma != NULL) {
        options_pairs(state, "--class", name, comma + 1);
    } else {
        snprintf(name, sizeof(name), "class[%.64s].priority", text);
        config_set(&state->options->config, "--class", OPTIONS_POOL, name, "0");
    }
}

static void options_directive(struct options_state *state, const struct directive *directive,
                              const char *value)
{
    char name[64];
    char flag[80];
    options_flag_name(directive, name, sizeof(name));
    snprintf(flag, sizeof(flag), "--%s", name); /* as it was given */
    config_set(&state->options->config, flag,
               directive->scope == DIRECTIVE_GLOBAL ? "global" : OPTIONS_POOL, directive->name,
               value);
}

/* --- help ------------------------------------------------------------------------------------- */

static void options_help_flag(const char *name, const char *metavar, const char *initial,
                              const char *help)
{
    char left[96];
    snprintf(left, sizeof(left), "--%s %s", name, metavar);
    printf("  %-32s %s%s%s%s\n", left, help, initial != NULL && initial[0] ? " (default " : "",
           initial != NULL ? initial : "", initial != NULL && initial[0] ? ")" : "");
}

static void options_help(void)
{
    char name[64];
    printf("Usage: deferd [-c FILE] [-o POOL.DIRECTIVE=VALUE]... [-t|-T]\n"
           "       deferd --listen ADDR --upstream ADDR --max-workers N [FLAG]...\n"
           "A FastCGI front end for php-fpm: web server -> deferd -> php-fpm.\n\n"
           "  -c FILE                          configuration (default " CONFIG_DEFAULT_FILE ")\n"
           "  -o POOL.DIRECTIVE=VALUE          one directive, over the file's; POOL may be global\n"
           "  -t                               test the configuration and end\n"
           "  -T                               the same, and print it as it is in effect\n"
           "  --check                          the same, and say where it does not fit php-fpm's\n"
           "  -h, --help                       this text\n"
           "  -v, --version                    the version\n\n"
           "Without a file, for one pool in the foreground:\n\n");
    options_help_flag("upstream", "ADDR[,max_workers=N]", NULL,
                      "where a php-fpm listens; may be given several times");
    options_help_flag("class", "NAME[,KEY=VALUE]...", NULL,
                      "a class of requests: max_workers, priority, queue_timeout");
    for (unsigned i = 0; i < directive_count; i++) {
        if (options_is_flag(&directives[i])) {
            options_flag_name(&directives[i], name, sizeof(name));
            options_help_flag(name, directives[i].type->metavar, directives[i].initial,
                              directives[i].help);
        }
    }
    printf("\nADDR is a path, unix:PATH, HOST:PORT or [V6]:PORT.\n"
           "Signals: TERM and INT end gracefully, a second one at once. See deferd(8).\n");
}

/* A line a directive: scope, name as in a file, metavar, default. */
static void options_print_directives(void)
{
    static const char *const scopes[] = {"global", "pool", "upstream", "class"};
    for (unsigned i = 0; i < directive_count; i++) {
        const struct directive *directive = &directives[i];
        printf("%s\t%s\t%s\t%s\n", scopes[directive->scope], directive->name,
               directive->type->metavar, directive->initial != NULL ? directive->initial : "");
    }
}

/* --- all of it -------------------------------------------------------------------------------- */

static enum options_result options_wrong(const char *text)
{
    fprintf(stderr, "deferd: %s (see deferd --help)\n", text);
    return OPTIONS_WRONG;
}

/* POOL.DIRECTIVE=VALUE */
static void options_override(struct config *config, const char *text)
{
    char section[64];
    char name[128];
    const char *dot = strchr(text, '.');
    const char *equals = strchr(text, '=');
    if (dot == NULL || equals == NULL || dot > equals || (size_t)(dot - text) >= sizeof(section) ||
        (size_t)(equals - dot - 1) >= sizeof(name)) {
        config_set(config, "-o", text, "", ""); /* which says what is allowed */
        return;
    }
    snprintf(section, sizeof(section), "%.*s", (int)(dot - text), text);
    snprintf(name, sizeof(name), "%.*s", (int)(equals - dot - 1), dot + 1);
    config_set(config, "-o", section, name, equals + 1);
}

static int options_apply(const struct options *options, struct config *config)
{
    if (options->file[0] != '\0') {
        config_load(config, options->file);
    }
    for (unsigned i = 0; i < options->override_count; i++) {
        options_override(config, options->overrides[i]);
    }
    return config_finish(config, options->file[0] != '\0' ? options->file : "flags");
}

int options_load(const struct options *options, struct config *out)
{
    config_init(out);
    return options_apply(options, out);
}

/* What this process starts with: the file and the overrides, or what another process has made of
 * them. */
static int options_read(const struct options *options, struct config *config)
{
    if (options->source[0] == '\0') {
        return options_apply(options, config);
    }
    config->handed_on = 1;
    config_load(config, options->source);
    return config_finish(config, options->source);
}

/* The master goes to another directory when it goes into the background. */
static int options_make_absolute(struct options *options)
{
    char directory[sizeof(options->file)];
    char path[2 * sizeof(options->file)];
    if (options->file[0] == '\0' || options->file[0] == '/' ||
        getcwd(directory, sizeof(directory)) == NULL) {
        return 0;
    }
    int n = snprintf(path, sizeof(path), "%s/%s", directory, options->file);
    if (n >= (int)sizeof(options->file)) {
        return -1;
    }
    memcpy(options->file, path, (size_t)n + 1);
    return 0;
}

/* Upstreams that are there before the file and -o are read are those of --upstream. */
static void options_number(struct options_state *state)
{
    struct config *config = &state->options->config;
    for (unsigned i = 0; i < config->pool_count; i++) {
        struct pool_options *pool = config->pools[i];
        for (unsigned j = 0; j < pool->upstream_count; j++) {
            pool->upstreams[j].numbered = 1;
        }
    }
}

static enum options_result options_finish(struct options_state *state)
{
    struct options *options = state->options;
    struct config *config = &options->config;
    if (state->flags > 0 && options->file[0] != '\0') {
        return options_wrong("flags and -c do not go together; -o sets single directives");
    }
    options_number(state);
    const char *handed = getenv(HANDOVER_CONFIG);
    if (options->worker) {
        snprintf(options->source, sizeof(options->source), "/proc/self/fd/%d", SOCKETS_CONFIG);
    } else if (handed != NULL) {
        snprintf(options->source, sizeof(options->source), "/proc/self/fd/%.12s", handed);
    }
    if (state->flags == 0 && options->file[0] == '\0') {
        snprintf(options->file, sizeof(options->file), "%s", CONFIG_DEFAULT_FILE);
    }
    if (options_make_absolute(options) != 0) {
        return options_wrong("-c: the path is too long");
    }
    if (options_read(options, config) != 0) {
        fprintf(stderr, "%.*s", (int)config->errors.len, (const char *)config->errors.data);
        return OPTIONS_WRONG;
    }
    if (state->dump) {
        config_print(config, 0, stdout);
    }
    if (state->test || state->dump) {
        fprintf(stderr, "deferd: the configuration is in order\n");
        return OPTIONS_DONE;
    }
    return OPTIONS_RUN;
}

static void options_longs(struct option *out, char (*names)[64])
{
    unsigned n = 0;
    out[n++] = (struct option){"help", no_argument, NULL, 'h'};
    out[n++] = (struct option){"version", no_argument, NULL, 'v'};
    out[n++] = (struct option){"upstream", required_argument, NULL, OPTIONS_UPSTREAM};
    out[n++] = (struct option){"worker", no_argument, NULL, OPTIONS_WORKER};
    out[n++] = (struct option){"class", required_argument, NULL, OPTIONS_CLASS};
    out[n++] = (struct option){"print-directives", no_argument, NULL, OPTIONS_PRINT_DIRECTIVES};
    out[n++] = (struct option){"check", no_argument, NULL, OPTIONS_CHECK};
    out[n++] = (struct option){"fpm-root", required_argument, NULL, OPTIONS_FPM_ROOT};
    out[n++] = (struct option){"print-man", no_argument, NULL, OPTIONS_PRINT_MAN};
    out[n++] = (struct option){"print-sample", no_argument, NULL, OPTIONS_PRINT_SAMPLE};
    out[n++] = (struct option){"print-metrics", no_argument, NULL, OPTIONS_PRINT_METRICS};
    for (unsigned i = 0; i < directive_count; i++) {
        if (options_is_flag(&directives[i])) {
            options_flag_name(&directives[i], names[i], sizeof(names[i]));
            out[n++] =
                (struct option){names[i], required_argument, NULL, OPTIONS_DIRECTIVES + (int)i};
        }
    }
    out[n] = (struct option){0};
}

/* What prints something for people or the Makefile. Returns OPTIONS_RUN if it is none of these. */
static enum options_result options_print(int option)
{
    switch (option) {
    case 'h':
        options_help();
        break;
    case 'v':
        printf("deferd %s\n", DEFERD_VERSION);
        break;
    case OPTIONS_PRINT_DIRECTIVES: /* for the tests */
        options_print_directives();
        break;
    case OPTIONS_PRINT_MAN: /* these three are for the Makefile */
        manual_print_directives(stdout);
        break;
    case OPTIONS_PRINT_SAMPLE:
        manual_print_sample(stdout);
        break;
    case OPTIONS_PRINT_METRICS:
        metrics_document(stdout);
        break;
    default:
        return OPTIONS_RUN;
    }
    return OPTIONS_DONE;
}

/* One option. Returns OPTIONS_RUN to go on. */
static enum options_result options_take(struct options_state *state, int option)
{
    struct options *options = state->options;
    if (options_print(option) == OPTIONS_DONE) {
        return OPTIONS_DONE;
    }
    switch (option) {
    case 't':
        state->test = 1;
        return OPTIONS_RUN;
    case 'T':
        state->dump = 1;
        return OPTIONS_RUN;
    case 'c':
        if (strlen(optarg) >= sizeof(options->file)) {
            return options_wrong("-c: the path is too long");
        }
        snprintf(options->file, sizeof(options->file), "%s", optarg);
        return OPTIONS_RUN;
    case 'o':
        if (options->override_count == OPTIONS_OVERRIDES_MAX) {
            return options_wrong("-o: too many");
        }
        options->overrides[options->override_count++] = optarg;
        return OPTIONS_RUN;
    case OPTIONS_WORKER: /* how a master starts one; not for people */
        options->worker = 1;
        return OPTIONS_RUN;
    case OPTIONS_CHECK:
        options->check = 1;
        return OPTIONS_RUN;
    case OPTIONS_FPM_ROOT: /* for tests */
        snprintf(options->fpm_root, sizeof(options->fpm_root), "%s", optarg);
        return OPTIONS_RUN;
    default:
        break;
    }
    state->flags++;
    if (option == OPTIONS_UPSTREAM) {
        options_upstream(state, optarg);
    } else if (option == OPTIONS_CLASS) {
        options_class(state, optarg);
    } else if (option >= OPTIONS_DIRECTIVES) {
        options_directive(state, &directives[option - OPTIONS_DIRECTIVES], optarg);
    } else {
        return options_wrong("wrong usage");
    }
    return OPTIONS_RUN;
}

enum options_result options_parse(struct options *options, int argc, char **argv)
{
    struct options_state state = {.options = options};
    struct option *longs = calloc(directive_count + OPTIONS_LONGS, sizeof(*longs));
    char(*names)[64] = calloc(directive_count, sizeof(*names));
    enum options_result result = OPTIONS_RUN;
    int option = 0;
    char text[256];

    *options = (struct options){.fpm_root = FPMCONF_ROOT};
    config_init(&options->config);
    if (longs == NULL || names == NULL) {
        result = options_wrong("no memory");
    } else {
        options_longs(longs, names);
    }
    while (result == OPTIONS_RUN &&
           (option = getopt_long(argc, argv, OPTIONS_SHORT, longs, NULL)) != -1) {
        result = options_take(&state, option);
    }
    free(longs);
    free(names);
    if (result == OPTIONS_RUN && optind < argc) {
        snprintf(text, sizeof(text), "\"%.200s\" is no option", argv[optind]);
        result = options_wrong(text);
    }
    return result == OPTIONS_RUN ? options_finish(&state) : result;
}
