/*
 * Happy path: defaults, then the file and the files it includes, then what the command line says,
 * in this order; the last value of a directive counts. Failure modes: all that is wrong is
 * collected as lines that name file, line, directive and what is allowed, so that one run shows
 * everything.
 */
#include "deferd/config.h"

#include "deferd/directive.h"
#include "deferd/fpmpool.h"
#include "deferd/sockets.h"
#include "deferd/source.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Stands in a pool's section that is handed on, and is no directive. */
#define CONFIG_PAUSED "(paused)"

/* The address of what was given a wrong one. */
#define CONFIG_STAND_IN "/"

/* More than these are not collected: what follows is mostly about the same mistake. */
#define CONFIG_ERRORS_MAX 100

void config_error(struct config *config, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (++config->error_count > CONFIG_ERRORS_MAX) {
        return;
    }
    for (char *p = line; *p != '\0'; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            *p = '?'; /* it is shown on terminals */
        }
    }
    buf_append(&config->errors, line, strlen(line));
    buf_append(&config->errors, "\n", 1);
    if (config->error_count == CONFIG_ERRORS_MAX) {
        static const char more[] = "... and perhaps more\n";
        buf_append(&config->errors, more, sizeof(more) - 1);
    }
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

const struct pool_options *config_find_pool(const struct config *config, const char *name)
{
    for (unsigned i = 0; i < config->pool_count; i++) {
        if (strcmp(config->pools[i]->name, name) == 0) {
            return config->pools[i];
        }
    }
    return NULL;
}

void config_set_paused(struct config *config, const char *name, int paused)
{
    for (unsigned i = 0; i < config->pool_count; i++) {
        if (strcmp(config->pools[i]->name, name) == 0) {
            config->pools[i]->paused = paused;
        }
    }
}

void config_keep_paused(struct config *config, const struct config *from)
{
    for (unsigned i = 0; i < from->pool_count; i++) {
        config_set_paused(config, from->pools[i]->name, from->pools[i]->paused);
    }
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

/* Is name the section of a pool? If not, that is said. */
static int config_is_pool(struct config *config, const char *where, const char *name)
{
    if (config_is_name(name, sizeof(config->pools[0]->name))) {
        return 1;
    }
    config_error(config,
                 "%s: [%s]: allowed for a pool's name are letters, digits, _ and -, at most 31",
                 where, name);
    return 0;
}

void config_section(struct config *config, const char *where, const char *name)
{
    if (strcmp(name, "global") != 0 && config_is_pool(config, where, name) &&
        config_pool(config, name) == NULL) {
        config_error(config, "%s: [%s]: at most %d pools are allowed", where, name,
                     CONFIG_POOLS_MAX);
    }
}

/* Writes value to out with the pool's name in place of $pool, as php-fpm does. Returns 0, or -1 if
 * it is too long or no text. */
static int config_expand(const char *value, const char *pool, char *out, size_t size)
{
    static const char variable[] = "$pool";
    size_t at = 0;
    while (*value != '\0') {
        int found = strncmp(value, variable, sizeof(variable) - 1) == 0;
        size_t len = found ? strlen(pool) : 1;
        if (at + len >= size || (unsigned char)*value < ' ' || *value == 0x7f) {
            return -1;
        }
        memcpy(out + at, found ? pool : value, len);
        at += len;
        value += found ? sizeof(variable) - 1 : 1;
    }
    out[at] = '\0';
    return 0;
}

/* What was given wrongly is not missing too: that would be a second line about one mistake. */
static void config_stand_in(const struct directive *directive, void *base)
{
    char err[256];
    if (directive->type->print == NULL) {
        directive = directive_find(DIRECTIVE_UPSTREAM, "");
    }
    if (directive->initial == NULL && directive_set(directive, base, "1", err, sizeof(err)) != 0) {
        directive_set(directive, base, CONFIG_STAND_IN, err, sizeof(err));
    }
}

/* Sets a field of the struct that the directive belongs to. */
static void config_set_field(struct config *config, const char *where, const char *section,
                             const char *name, const char *value, const struct directive *directive,
                             void *base)
{
    char err[512];
    char text[CONFIG_VALUE_MAX];
    int pool = directive->scope != DIRECTIVE_GLOBAL;
    if (config_expand(value, pool ? section : "$pool", text, sizeof(text)) != 0) {
        config_error(config,
                     "%s: [%s] %s = %.200s: allowed are at most %d bytes, none of them a control "
                     "character",
                     where, section, name, value, CONFIG_VALUE_MAX - 1);
        config_stand_in(directive, base);
    } else if (directive_set(directive, base, text, err, sizeof(err)) != 0) {
        config_error(config, "%s: [%s] %s = %.400s: %s", where, section, name, value, err);
        config_stand_in(directive, base);
    }
}

void config_set(struct config *config, const char *where, const char *section, const char *name,
                const char *value)
{
    int global = strcmp(section, "global") == 0;
    if (config->handed_on && strcmp(name, CONFIG_PAUSED) == 0) {
        config_set_paused(config, section, 1);
        return;
    }
    struct config_target target = {global ? DIRECTIVE_GLOBAL : DIRECTIVE_POOL, "", name};

    if (!global && strcmp(name, "upstream") == 0) {
        target = (struct config_target){DIRECTIVE_UPSTREAM, "", ""};
    } else if (!global && strcmp(name, "upstream.fpm_pool") == 0) {
        target = (struct config_target){DIRECTIVE_UPSTREAM, "", "fpm_pool"};
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
    if (!global && !config_is_pool(config, where, section)) {
        return;
    }
    struct pool_options *pool = global ? NULL : config_pool(config, section);
    void *base = global ? (void *)&config->global : pool ? config_base(pool, &target) : NULL;
    if (base == NULL) {
        config_error(config,
                     "%s: [%s] %s: at most %d pools, %d upstreams and %d classes are allowed",
                     where, section, name, CONFIG_POOLS_MAX, POOL_UPSTREAMS_MAX, POOL_CLASSES_MAX);
    } else {
        config_set_field(config, where, section, name, value, directive, base);
    }
}

/* --- all of it -------------------------------------------------------------------------------- */

void config_load(struct config *config, const char *path)
{
    config->from_file = 1;
    source_read(config, path);
}

/* A path would be another one once the master is in the background. */
static void config_check_absolute(struct config *config, const char *where, const char *pool,
                                  const char *name, const struct address *address)
{
    if (config->from_file && address->len != 0 && address_is_unix(address) &&
        strncmp(address->text, "unix:/", 6) != 0) {
        config_error(config, "%s: [%s] %s = %s: allowed is an absolute path", where, pool, name,
                     address->text);
    }
}

/* What php-fpm's own file says fills in what is not said here. */
static void config_ask_fpm(struct config *config, const char *where,
                           const struct pool_options *pool, struct upstream_options *upstream)
{
    struct fpmpool fpm;
    char err[512];
    char problem[512];
    if (upstream->address.len != 0) {
        snprintf(err, sizeof(err), "allowed is only one of it and the upstream's address, %s",
                 upstream->address.text);
    } else if (fpmpool_read(&fpm, upstream->fpm_pool, err, sizeof(err)) == 0) {
        if (address_parse(&upstream->address, fpm.connect, problem, sizeof(problem)) == 0) {
            if (upstream->max_workers == 0 &&
                (upstream->name[0] != '\0' || pool->max_workers == 0)) {
                upstream->max_workers = fpm.max_children;
            }
            return;
        }
        snprintf(err, sizeof(err), "listen = %.100s: %.300s", fpm.listen, problem);
    }
    config_stand_in(directive_find(DIRECTIVE_UPSTREAM, ""), upstream);
    upstream->max_workers = 1;
    config_error(config, "%s: [%s] upstream%s%s%s.fpm_pool = %s: %s", where, pool->name,
                 upstream->name[0] ? "[" : "", upstream->name, upstream->name[0] ? "]" : "",
                 upstream->fpm_pool, err);
}

/* Something that a pool cannot do without, by the name under which it would be given. */
static void config_missing(struct config *config, const char *where,
                           const struct pool_options *pool, const char *directive, const char *flag,
                           const char *what)
{
    if (config->from_file) {
        config_error(config, "%s: [%s]: %s is missing: %s", where, pool->name, directive, what);
    } else {
        config_error(config, "%s: %s is missing: %s", where, flag, what);
    }
}

/* Given twice, its workers would be counted twice, and its metrics have one name. */
static void config_check_upstream(struct config *config, const char *where,
                                  const struct pool_options *pool, unsigned index)
{
    const char *name = pool->upstreams[index].name;
    const char *address = pool->upstreams[index].address.text;
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(address, pool->upstreams[i].address.text) != 0 || address[0] == '\0' ||
            strcmp(address, "unix:" CONFIG_STAND_IN) == 0) {
            continue;
        }
        if (config->from_file) {
            config_error(config,
                         "%s: [%s] upstream%s%s%s = %s: an upstream of this pool has that address "
                         "already",
                         where, pool->name, name[0] ? "[" : "", name, name[0] ? "]" : "", address);
        } else {
            config_error(config, "%s: --upstream %s: it is given already", where, address);
        }
        return;
    }
}

static void config_finish_upstream(struct config *config, const char *where,
                                   struct pool_options *pool, struct upstream_options *upstream)
{
    if (upstream->fpm_pool[0] != '\0') {
        config_ask_fpm(config, where, pool, upstream);
    } else if (upstream->address.len == 0) {
        config_error(config, "%s: [%s]: upstream[%s] = ADDR is missing", where, pool->name,
                     upstream->name);
    } else {
        config_check_absolute(config, where, pool->name, "upstream", &upstream->address);
    }
    if (upstream->max_workers == 0) {
        upstream->max_workers = pool->max_workers;
    }
    if (upstream->max_workers == 0) {
        config_missing(config, where, pool, "upstream.max_workers", "--max-workers",
                       "php-fpm's pm.max_children");
    }
}

static void config_finish_logs(struct config *config, const char *where,
                               const struct pool_options *pool)
{
    if (pool->slowlog_timeout > 0 && pool->slowlog[0] == '\0') {
        config_error(config,
                     "%s: [%s]: slowlog is missing: the file that defer_slowlog_timeout is "
                     "for",
                     where, pool->name);
    }
    if (pool->allowed_clients.count > 0 && pool->listen.len != 0 &&
        address_is_unix(&pool->listen)) {
        config_error(config,
                     "%s: [%s] listen.allowed_clients: allowed is only a TCP listen; for %s there "
                     "is listen.mode",
                     where, pool->name, pool->listen.text);
    }
}

static void config_finish_pool(struct config *config, const char *where, struct pool_options *pool)
{
    if (pool->listen.len == 0) {
        config_missing(config, where, pool, "listen", "--listen",
                       "where the web server connects to");
    }
    config_check_absolute(config, where, pool->name, "listen", &pool->listen);
    if (pool->upstream_count == 0) {
        config_missing(config, where, pool, "upstream", "--upstream", "where php-fpm listens");
    }
    for (unsigned i = 0; i < pool->upstream_count; i++) {
        config_finish_upstream(config, where, pool, &pool->upstreams[i]);
        config_check_upstream(config, where, pool, i);
    }
    for (unsigned i = 0; i < pool->upstream_count; i++) {
        if (pool->upstreams[i].name[0] == '\0') {
            /* It is written as the pool's, see config_print. */
            pool->max_workers = pool->upstreams[i].max_workers;
        }
    }
    for (unsigned i = 0; i < pool->class_count; i++) {
        if (pool->classes[i].queue_timeout == 0) {
            pool->classes[i].queue_timeout = pool->queue_timeout;
        }
    }
    config_finish_logs(config, where, pool);
}

/* What socket i of sockets_of_config is called. */
static void config_socket_name(const struct config *config, unsigned i, char *out, size_t size)
{
    static const char *const extras[] = {[SOCKETS_CONTROL] = "control",
                                         [SOCKETS_READONLY] = "control.readonly",
                                         [SOCKETS_METRICS] = "metrics.listen"};
    if (i < config->pool_count) {
        snprintf(out, size, "[%s] listen", config->pools[i]->name);
    } else {
        snprintf(out, size, "[global] %s", extras[i - config->pool_count]);
    }
}

/* One socket cannot be two: who connects would have the rights of the one or the other by chance.
 */
static void config_check_listen(struct config *config, const char *where)
{
    struct socket_spec specs[SOCKETS_LIST_MAX];
    unsigned count = sockets_of_config(config, specs);
    config_check_absolute(config, where, "global", "metrics.listen",
                          &config->global.metrics_listen);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < i; j++) {
            char name[64];
            char other[64];
            const struct address *a = &specs[i].address;
            const struct address *b = &specs[j].address;
            if (a->len == 0 || a->len != b->len || memcmp(&a->sa, &b->sa, a->len) != 0 ||
                strcmp(a->text, "unix:" CONFIG_STAND_IN) == 0) {
                continue;
            }
            config_socket_name(config, i, name, sizeof(name));
            config_socket_name(config, j, other, sizeof(other));
            config_error(config, "%s: %s = %s: that is the address of %s already", where, name,
                         a->text, other);
        }
    }
}

/* In the background standard error is /dev/null: nobody would ever learn what goes wrong. */
static void config_check_daemon(struct config *config, const char *where)
{
    const struct global_options *global = &config->global;
    if (global->daemonize &&
        (global->error_log[0] == '\0' || strcmp(global->error_log, "stderr") == 0)) {
        config_error(config,
                     "%s: [global] error_log is missing: with daemonize = yes, allowed is a file, "
                     "or syslog",
                     where);
    }
}

int config_finish(struct config *config, const char *where)
{
    if (config->pool_count == 0) {
        config_error(config, "%s: there is no pool", where);
    }
    config_check_daemon(config, where);
    for (unsigned i = 0; i < config->pool_count; i++) {
        config_finish_pool(config, where, config->pools[i]);
    }
    config_check_listen(config, where);
    return config->errors.len == 0 ? 0 : -1;
}

static void config_print_scope(FILE *out, enum directive_scope scope, const char *prefix,
                               const char *name, const void *base, int hand_on)
{
    char value[CONFIG_VALUE_MAX];
    for (unsigned i = 0; i < directive_count; i++) {
        const struct directive *directive = &directives[i];
        if (directive->scope != scope || directive->type->print == NULL) {
            continue; /* the latter: what it says is printed by other directives */
        }
        directive_print(directive, base, hand_on, value, sizeof(value));
        if (directive->initial == NULL && strcmp(value, "0") == 0) {
            continue; /* not set */
        }
        if (scope == DIRECTIVE_UPSTREAM && name[0] == '\0' && directive->name[0] != '\0') {
            continue; /* the pool's */
        }
        fprintf(out, "%s%s%s%s%s%s = ", prefix, name[0] ? "[" : "", name, name[0] ? "]" : "",
                prefix[0] && directive->name[0] ? "." : "", directive->name);
        source_print_value(out, value);
        fputc('\n', out);
    }
}

void config_print(const struct config *config, int hand_on, FILE *out)
{
    fprintf(out, "[global]\n");
    config_print_scope(out, DIRECTIVE_GLOBAL, "", "", &config->global, hand_on);
    for (unsigned i = 0; i < config->pool_count; i++) {
        const struct pool_options *pool = config->pools[i];
        fprintf(out, "\n[%s]\n", pool->name);
        config_print_scope(out, DIRECTIVE_POOL, "", "", pool, hand_on);
        if (hand_on && pool->paused) {
            fprintf(out, CONFIG_PAUSED " = yes\n");
        }
        for (unsigned j = 0; j < pool->upstream_count; j++) {
            config_print_scope(out, DIRECTIVE_UPSTREAM, "upstream", pool->upstreams[j].name,
                               &pool->upstreams[j], hand_on);
        }
        for (unsigned j = 0; j < pool->class_count; j++) {
            config_print_scope(out, DIRECTIVE_CLASS, "class", pool->classes[j].name,
                               &pool->classes[j], hand_on);
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
