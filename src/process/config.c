/*
 * Happy path: defaults, then the file and the files it includes, then what the command line says,
 * in this order; the last value of a directive counts. Failure modes: all that is wrong is
 * collected as lines that name file, line, directive and what is allowed, so that one run shows
 * everything.
 */
#include "deferd/config.h"

#include "deferd/directive.h"

#include <errno.h>
#include <glob.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Files that include files that include files: deeper is a loop. */
#define CONFIG_DEPTH_MAX 8

/* The longest line of a file, its LF included. */
#define CONFIG_LINE_MAX 1024

/* A file that is being read. */
struct config_source {
    struct config *config;
    FILE *file;
    const char *path;
    unsigned line;
    unsigned depth;
    char section[64]; /* the current one, also while it has no directives */
};

static void config_read(struct config *config, const char *path, const char *section,
                        unsigned depth);

__attribute__((format(printf, 2, 3))) static void config_error(struct config *config,
                                                               const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    buf_append(&config->errors, line, strlen(line));
    buf_append(&config->errors, "\n", 1);
}

void config_init(struct config *config)
{
    *config = (struct config){0};
    directive_defaults(DIRECTIVE_GLOBAL, &config->global);
}

/* --- names ------------------------------------------------------------------------------------ */

/* Names of pools, classes and upstreams stand in logs, metrics and commands. */
static int config_is_name(const char *name, size_t max)
{
    size_t len = strlen(name);
    return len > 0 && len < max &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

static struct class_options *config_class(struct pool_options *pool, const char *name)
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
    directive_defaults(DIRECTIVE_CLASS, class);
    snprintf(class->name, sizeof(class->name), "%s", name);
    return class;
}

static struct upstream_options *config_upstream(struct pool_options *pool, const char *name)
{
    for (unsigned i = 0; i < pool->upstream_count; i++) {
        if (strcmp(pool->upstreams[i].name, name) == 0) {
            return &pool->upstreams[i];
        }
    }
    if (pool->upstream_count == POOL_UPSTREAMS_MAX) {
        return NULL;
    }
    struct upstream_options *upstream = &pool->upstreams[pool->upstream_count++];
    snprintf(upstream->name, sizeof(upstream->name), "%s", name);
    return upstream;
}

static struct pool_options *config_pool(struct config *config, const char *name)
{
    for (unsigned i = 0; i < config->pool_count; i++) {
        if (strcmp(config->pools[i]->name, name) == 0) {
            return config->pools[i];
        }
    }
    struct pool_options *pool =
        config->pool_count < CONFIG_POOLS_MAX ? calloc(1, sizeof(*pool)) : NULL;
    if (pool == NULL) {
        return NULL;
    }
    snprintf(pool->name, sizeof(pool->name), "%s", name);
    directive_defaults(DIRECTIVE_POOL, pool);
    config_class(pool, "default");
    config->pools[config->pool_count++] = pool;
    return pool;
}

/* --- one directive ---------------------------------------------------------------------------- */

/* A directive as it is written, taken apart: class[NAME].REST and upstream[NAME].REST. */
struct config_target {
    enum directive_scope scope;
    char name[32]; /* of the class or upstream */
    const char *rest;
};

/* Returns 0, or -1 if name begins like KIND[ and goes on wrongly. */
static int config_take_apart(const char *name, const char *kind, enum directive_scope scope,
                             struct config_target *out)
{
    size_t len = strlen(kind);
    if (strncmp(name, kind, len) != 0 || name[len] != '[') {
        return 0;
    }
    const char *start = name + len + 1;
    const char *end = strchr(start, ']');
    if (end == NULL || (size_t)(end - start) >= sizeof(out->name) ||
        (end[1] != '\0' && end[1] != '.')) {
        return -1;
    }
    out->scope = scope;
    snprintf(out->name, sizeof(out->name), "%.*s", (int)(end - start), start);
    out->rest = end[1] == '.' ? end + 2 : "";
    return config_is_name(out->name, sizeof(out->name)) ? 0 : -1;
}

/* The struct that the directive's field is in; NULL if there are too many of its kind. */
static void *config_base(struct pool_options *pool, const struct config_target *target)
{
    switch (target->scope) {
    case DIRECTIVE_UPSTREAM:
        return config_upstream(pool, target->name);
    case DIRECTIVE_CLASS:
        return config_class(pool, target->name);
    default:
        return pool;
    }
}

void config_set(struct config *config, const char *where, const char *section, const char *name,
                const char *value)
{
    char err[512];
    int global = strcmp(section, "global") == 0;
    struct config_target target = {global ? DIRECTIVE_GLOBAL : DIRECTIVE_POOL, "", name};

    if (!global && strcmp(name, "upstream") == 0) {
        target = (struct config_target){DIRECTIVE_UPSTREAM, "", ""};
    }
    if (!global && (config_take_apart(name, "class", DIRECTIVE_CLASS, &target) != 0 ||
                    config_take_apart(name, "upstream", DIRECTIVE_UPSTREAM, &target) != 0)) {
        config_error(config,
                     "%s: [%s] %s: allowed is class[NAME].… or upstream[NAME]…, NAME of letters, "
                     "digits, _ and -, at most 31",
                     where, section, name);
        return;
    }
    const struct directive *directive = directive_find(target.scope, target.rest);
    if (directive == NULL) {
        config_error(config, "%s: [%s] %s: there is no such directive (deferd.conf(5) lists all)",
                     where, section, name);
        return;
    }
    if (!global && !config_is_name(section, sizeof(config->pools[0]->name))) {
        config_error(config,
                     "%s: [%s]: allowed for a pool's name are letters, digits, _ and -, at most 31",
                     where, section);
        return;
    }
    struct pool_options *pool = global ? NULL : config_pool(config, section);
    void *base = global ? (void *)&config->global : pool ? config_base(pool, &target) : NULL;
    if (base == NULL) {
        config_error(config,
                     "%s: [%s] %s: at most %d pools, %d upstreams and %d classes are allowed",
                     where, section, name, CONFIG_POOLS_MAX, POOL_UPSTREAMS_MAX, POOL_CLASSES_MAX);
    } else if (directive_set(directive, base, value, err, sizeof(err)) != 0) {
        config_error(config, "%s: [%s] %s = %s: %s", where, section, name, value, err);
    }
}

/* --- files ------------------------------------------------------------------------------------ */

/* inih's fgets: counts lines, and refuses those that inih would cut in two. */
static char *config_line(char *line, int size, void *arg)
{
    struct config_source *source = arg;
    if (fgets(line, size, source->file) == NULL) {
        return NULL;
    }
    source->line++;
    if (strchr(line, '\n') == NULL && !feof(source->file)) {
        int c;
        config_error(source->config, "%s:%u: a line longer than %d bytes", source->path,
                     source->line, size - 2);
        while ((c = fgetc(source->file)) != EOF && c != '\n') {
        }
        line[0] = '\0';
    }
    const char *first = line + strspn(line, " \t");
    if (strchr(";#\r\n", first[0]) == NULL &&
        strpbrk(first, first[0] == '[' ? "]" : "=:") == NULL) {
        config_error(source->config, "%s:%u: neither a section, nor a directive with its value",
                     source->path, source->line);
        line[0] = '\0';
    }
    return line;
}

static int config_handler(void *arg, const char *section, const char *name, const char *value)
{
    struct config_source *source = arg;
    char where[512];
    char text[CONFIG_LINE_MAX];
    size_t len = strlen(value);
    const char *in = section[0] != '\0' ? section : source->section;

    snprintf(where, sizeof(where), "%s:%u", source->path, source->line);
    if (len >= 2 && value[0] == '"' && value[len - 1] == '"') {
        snprintf(text, sizeof(text), "%.*s", (int)len - 2, value + 1);
    } else {
        snprintf(text, sizeof(text), "%s", value);
    }
    if (strcmp(name, "include") == 0) {
        config_read(source->config, text, in, source->depth + 1);
        return 1;
    }
    if (in[0] == '\0') {
        config_error(source->config, "%s: %s: stands in no section; [global] or [POOL] comes first",
                     where, name);
        return 1;
    }
    config_set(source->config, where, in, name, text);
    return 1;
}

static void config_read_file(struct config *config, const char *path, const char *section,
                             unsigned depth)
{
    struct config_source source = {.config = config, .path = path, .depth = depth};
    snprintf(source.section, sizeof(source.section), "%s", section);
    source.file = fopen(path, "re");
    if (source.file == NULL) {
        config_error(config, "%s: cannot be read: %s", path, strerror(errno));
        return;
    }
    /* One line is one directive, as in php-fpm's files; a comment begins with ; */
    ini_allow_multiline = false;
    ini_use_stack = false;
    ini_max_line = CONFIG_LINE_MAX;
    ini_initial_alloc = CONFIG_LINE_MAX;
    int rc = ini_parse_stream(config_line, &source, config_handler, &source);
    if (rc != 0) {
        config_error(config, "%s: %s", path, rc < 0 ? "no memory" : "cannot be parsed");
    }
    fclose(source.file);
}

/* path may be a pattern; without one it must be there. */
static void config_read(struct config *config, const char *path, const char *section,
                        unsigned depth)
{
    glob_t found;
    if (depth > CONFIG_DEPTH_MAX) {
        config_error(config, "%s: included by itself, or more than %d deep", path,
                     CONFIG_DEPTH_MAX);
        return;
    }
    if (strpbrk(path, "*?[") == NULL || glob(path, GLOB_NOMAGIC, NULL, &found) != 0) {
        if (strpbrk(path, "*?[") == NULL) {
            config_read_file(config, path, section, depth);
        }
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        config_read_file(config, found.gl_pathv[i], section, depth);
    }
    globfree(&found);
}

void config_load(struct config *config, const char *path)
{
    config_read_file(config, path, "", 0);
}

/* --- all of it -------------------------------------------------------------------------------- */

static void config_finish_pool(struct config *config, const char *where, struct pool_options *pool)
{
    if (pool->listen.len == 0) {
        config_error(config, "%s: [%s]: listen is missing: where the web server connects to", where,
                     pool->name);
    }
    if (pool->upstream_count == 0) {
        config_error(config, "%s: [%s]: upstream is missing: where php-fpm listens", where,
                     pool->name);
    }
    for (unsigned i = 0; i < pool->upstream_count; i++) {
        struct upstream_options *upstream = &pool->upstreams[i];
        if (upstream->address.len == 0) {
            config_error(config, "%s: [%s]: upstream[%s] = ADDR is missing", where, pool->name,
                         upstream->name);
        }
        if (upstream->max_workers == 0) {
            upstream->max_workers = pool->max_workers;
        }
        if (upstream->max_workers == 0) {
            config_error(config,
                         "%s: [%s]: upstream.max_workers is missing: php-fpm's pm.max_children",
                         where, pool->name);
        }
    }
    for (unsigned i = 0; i < pool->class_count; i++) {
        if (pool->classes[i].queue_timeout == 0) {
            pool->classes[i].queue_timeout = pool->queue_timeout;
        }
    }
}

static int config_same_address(const struct address *a, const struct address *b)
{
    return a->len != 0 && a->len == b->len && memcmp(&a->sa, &b->sa, a->len) == 0;
}

static void config_check_listen(struct config *config, const char *where)
{
    const struct address *metrics = &config->global.metrics_listen;
    for (unsigned i = 0; i < config->pool_count; i++) {
        if (config_same_address(&config->pools[i]->listen, metrics)) {
            config_error(config, "%s: [global] metrics.listen = %s: [%s] listens there already",
                         where, metrics->text, config->pools[i]->name);
        }
        for (unsigned j = 0; j < i; j++) {
            const struct address *a = &config->pools[i]->listen;
            const struct address *b = &config->pools[j]->listen;
            if (config_same_address(a, b)) {
                config_error(config, "%s: [%s] listen = %s: [%s] listens there already", where,
                             config->pools[i]->name, a->text, config->pools[j]->name);
            }
        }
    }
}

int config_finish(struct config *config, const char *where)
{
    if (config->pool_count == 0) {
        config_error(config, "%s: there is no pool", where);
    }
    for (unsigned i = 0; i < config->pool_count; i++) {
        config_finish_pool(config, where, config->pools[i]);
    }
    config_check_listen(config, where);
    return config->errors.len == 0 ? 0 : -1;
}

static void config_print_scope(FILE *out, enum directive_scope scope, const char *prefix,
                               const char *name, const void *base)
{
    char value[1024];
    for (unsigned i = 0; i < directive_count; i++) {
        const struct directive *directive = &directives[i];
        if (directive->scope != scope) {
            continue;
        }
        directive_print(directive, base, value, sizeof(value));
        if (directive->initial == NULL && strcmp(value, "0") == 0) {
            continue; /* not set */
        }
        fprintf(out, "%s%s%s%s%s%s = %s\n", prefix, name[0] ? "[" : "", name, name[0] ? "]" : "",
                prefix[0] && directive->name[0] ? "." : "", directive->name, value);
    }
}

void config_print(const struct config *config, FILE *out)
{
    fprintf(out, "[global]\n");
    config_print_scope(out, DIRECTIVE_GLOBAL, "", "", &config->global);
    for (unsigned i = 0; i < config->pool_count; i++) {
        const struct pool_options *pool = config->pools[i];
        fprintf(out, "\n[%s]\n", pool->name);
        config_print_scope(out, DIRECTIVE_POOL, "", "", pool);
        for (unsigned j = 0; j < pool->upstream_count; j++) {
            config_print_scope(out, DIRECTIVE_UPSTREAM, "upstream", pool->upstreams[j].name,
                               &pool->upstreams[j]);
        }
        for (unsigned j = 0; j < pool->class_count; j++) {
            config_print_scope(out, DIRECTIVE_CLASS, "class", pool->classes[j].name,
                               &pool->classes[j]);
        }
    }
}

void config_free(struct config *config)
{
    for (unsigned i = 0; i < config->pool_count; i++) {
        free(config->pools[i]);
    }
    buf_free(&config->errors);
    *config = (struct config){0};
}
