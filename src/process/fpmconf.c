/*
 * Happy path: look through pool files for the section that listens on an address, then read that
 * section, php-fpm.conf beside it, and php.ini with conf.d. Failure modes: what cannot be read or
 * understood counts as not set; php-fpm itself is who says what is wrong with its files.
 */
#include "deferd/fpmconf.h"

#include <glob.h>
#include <ini.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* php.ini's lines: a list of disabled functions is long. */
#define FPMCONF_LINE_MAX FPMCONF_TEXT_MAX

/* A file that is being read. */
struct fpmconf_source {
    struct fpmconf *out;
    const char *file;
    const struct address *address; /* what is looked for; NULL once it is found */
};

static const char *const fpmconf_names[] = {
    [FPMCONF_OUTPUT_BUFFERING] = "output_buffering", [FPMCONF_OUTPUT_HANDLER] = "output_handler",
    [FPMCONF_ZLIB] = "zlib.output_compression",      [FPMCONF_AUTO_PREPEND] = "auto_prepend_file",
    [FPMCONF_OPEN_BASEDIR] = "open_basedir",         [FPMCONF_DISABLED] = "disable_functions",
};

#define FPMCONF_NAMES (sizeof(fpmconf_names) / sizeof(fpmconf_names[0]))

/* --- values ----------------------------------------------------------------------------------- */

int fpmconf_is_on(const char *value)
{
    return strcasecmp(value, "on") == 0 || strcasecmp(value, "yes") == 0 ||
           strcasecmp(value, "true") == 0 || atoi(value) != 0;
}

/* 30, 30s, 5m, 1h, 1d; 0 for what is none of these. */
static uint64_t fpmconf_time(const char *value)
{
    char *unit;
    uint64_t n = strtoull(value, &unit, 10) * 1000;
    switch (*unit) {
    case 'm':
        return n * 60;
    case 'h':
        return n * 3600;
    case 'd':
        return n * 86400;
    default:
        return n;
    }
}

/* A copy without the quotes around it, and with the pool's name for $pool. */
static void fpmconf_text(char *out, size_t size, const char *value, const char *pool)
{
    size_t len = strlen(value);
    int quoted = len >= 2 && (value[0] == '"' || value[0] == '\'') && value[len - 1] == value[0];
    const char *name;
    if (quoted) {
        value++;
        len -= 2;
    }
    if (pool != NULL && (name = strstr(value, "$pool")) != NULL && name + 5 <= value + len) {
        snprintf(out, size, "%.*s%s%.*s", (int)(name - value), value, pool,
                 (int)(value + len - name - 5), name + 5);
    } else {
        snprintf(out, size, "%.*s", (int)len, value);
    }
}

/* --- which pool ------------------------------------------------------------------------------- */

static unsigned fpmconf_port(const struct address *address)
{
    const struct sockaddr *sa = (const struct sockaddr *)&address->sa;
    return sa->sa_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)&address->sa)->sin6_port)
                                     : ntohs(((const struct sockaddr_in *)&address->sa)->sin_port);
}

/* Also true for another name of the same socket: Debian's php-fpm.sock is a link. */
static int fpmconf_same_file(const char *a, const char *b)
{
    struct stat first;
    struct stat second;
    return strcmp(a, b) == 0 || (stat(a, &first) == 0 && stat(b, &second) == 0 &&
                                 first.st_dev == second.st_dev && first.st_ino == second.st_ino);
}

/* Is a connection to address one to this listen? */
static int fpmconf_listens(const char *listen, const struct address *address)
{
    static const char *const any[] = {"0.0.0.0:", "[::]:", "*:"};
    struct address parsed = {0};
    char err[256];
    if (address_is_unix(address) || listen[0] == '/') {
        const struct sockaddr_un *sun = (const struct sockaddr_un *)&address->sa;
        return address_is_unix(address) && listen[0] == '/' &&
               fpmconf_same_file(listen, sun->sun_path);
    }
    const char *port = listen; /* alone, it is on all addresses */
    for (size_t i = 0; i < sizeof(any) / sizeof(any[0]); i++) {
        if (strncmp(listen, any[i], strlen(any[i])) == 0) {
            port = listen + strlen(any[i]);
        }
    }
    if (strspn(port, "0123456789") == strlen(port)) {
        return strtoul(port, NULL, 10) == fpmconf_port(address);
    }
    return address_parse(&parsed, listen, err, sizeof(err)) == 0 && parsed.len == address->len &&
           memcmp(&parsed.sa, &address->sa, parsed.len) == 0;
}

/* inih's handler for the first pass. */
static int fpmconf_on_listen(void *arg, const char *section, const char *name, const char *value)
{
    struct fpmconf_source *source = arg;
    char listen[ADDRESS_TEXT_MAX];
    if (strcmp(name, "listen") == 0 && source->address != NULL) {
        fpmconf_text(listen, sizeof(listen), value, section);
        if (fpmconf_listens(listen, source->address)) {
            snprintf(source->out->listen, sizeof(source->out->listen), "%s", listen);
            snprintf(source->out->pool, sizeof(source->out->pool), "%s", section);
            source->address = NULL;
        }
    }
    return 1;
}

/* --- its values ------------------------------------------------------------------------------- */

static void fpmconf_set_ini(struct fpmconf_source *source, const char *name, const char *value,
                            int pool, int admin)
{
    for (size_t i = 0; i < FPMCONF_NAMES; i++) {
        /* php.ini's list of functions holds in any case; a pool's is added to it. */
        size_t slot = i == FPMCONF_DISABLED && pool ? FPMCONF_DISABLED_POOL : i;
        struct fpmconf_setting *setting = &source->out->ini[slot];
        if (strcmp(fpmconf_names[i], name) == 0 && (admin || !setting->admin)) {
            fpmconf_text(setting->value, sizeof(setting->value), value, NULL);
            snprintf(setting->file, sizeof(setting->file), "%s", source->file);
            setting->admin = admin;
        }
    }
}

/* php_value[NAME] and its like. */
static void fpmconf_set_php(struct fpmconf_source *source, const char *name, const char *value)
{
    static const char *const kinds[] = {"php_admin_value[", "php_admin_flag[", "php_value[",
                                        "php_flag["};
    char bare[128];
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t len = strlen(kinds[i]);
        if (strncmp(name, kinds[i], len) == 0) {
            snprintf(bare, sizeof(bare), "%.*s", (int)strcspn(name + len, "]"), name + len);
            fpmconf_set_ini(source, bare, value, 1, i < 2);
        }
    }
}

/* inih's handler for the second pass. */
static int fpmconf_on_pool(void *arg, const char *section, const char *name, const char *value)
{
    struct fpmconf_source *source = arg;
    struct fpmconf *out = source->out;
    char text[FPMCONF_TEXT_MAX];
    if (strcmp(section, out->pool) != 0) {
        return 1;
    }
    fpmconf_text(text, sizeof(text), value, section);
    if (strcmp(name, "user") == 0) {
        snprintf(out->user, sizeof(out->user), "%.63s", text);
    } else if (strcmp(name, "group") == 0) {
        snprintf(out->group, sizeof(out->group), "%.63s", text);
    } else if (strcmp(name, "pm") == 0) {
        snprintf(out->pm, sizeof(out->pm), "%.15s", text);
    } else if (strcmp(name, "pm.max_children") == 0) {
        out->max_children = (unsigned)strtoul(text, NULL, 10);
    } else if (strcmp(name, "listen.backlog") == 0) {
        out->backlog = (int)strtol(text, NULL, 10);
    } else if (strcmp(name, "request_terminate_timeout") == 0) {
        out->terminate_timeout = fpmconf_time(text);
    } else {
        fpmconf_set_php(source, name, value);
    }
    return 1;
}

static int fpmconf_on_main(void *arg, const char *section, const char *name, const char *value)
{
    const struct fpmconf_source *source = arg;
    char text[64];
    if (strcmp(section, "global") == 0 && strcmp(name, "process_control_timeout") == 0) {
        fpmconf_text(text, sizeof(text), value, NULL);
        source->out->control_timeout = fpmconf_time(text);
    }
    return 1;
}

static int fpmconf_on_ini(void *arg, const char *section, const char *name, const char *value)
{
    /* [PATH=…] and [HOST=…] hold for some requests only. */
    if (strncasecmp(section, "PATH=", 5) != 0 && strncasecmp(section, "HOST=", 5) != 0) {
        fpmconf_set_ini(arg, name, value, 0, 0);
    }
    return 1;
}

/* --- files ------------------------------------------------------------------------------------ */

static void fpmconf_parse(struct fpmconf_source *source, const char *file, ini_handler handler)
{
    source->file = file;
    ini_allow_multiline = false;
    ini_use_stack = false;
    ini_max_line = FPMCONF_LINE_MAX;
    ini_initial_alloc = FPMCONF_LINE_MAX;
    (void)ini_parse(file, handler, source);
}

/* 8 and 2 from …/8.2/fpm. */
static void fpmconf_version(struct fpmconf *out, const char *directory)
{
    char text[256];
    unsigned major;
    unsigned minor;
    snprintf(text, sizeof(text), "%s", directory);
    for (char *slash = strrchr(text, '/'); slash != NULL; slash = strrchr(text, '/')) {
        if (sscanf(slash + 1, "%2u.%2u", &major, &minor) == 2) {
            out->version[0] = major;
            out->version[1] = minor;
            return;
        }
        *slash = '\0';
    }
}

/* What stands in the directory of php-fpm.conf: beside the pool's file or one above it. */
static void fpmconf_read_directory(struct fpmconf *out)
{
    char directory[256];
    char path[300];
    glob_t found;
    struct stat st;
    struct fpmconf_source source = {out, NULL, NULL};
    snprintf(directory, sizeof(directory), "%s", out->file);
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(directory, '/');
        if (slash == NULL) {
            return;
        }
        *slash = '\0';
        snprintf(path, sizeof(path), "%s/php-fpm.conf", directory);
        if (stat(path, &st) == 0) {
            break;
        }
    }
    snprintf(out->main, sizeof(out->main), "%.255s", path);
    fpmconf_version(out, directory);
    fpmconf_parse(&source, out->main, fpmconf_on_main);
    snprintf(path, sizeof(path), "%s/php.ini", directory);
    fpmconf_parse(&source, path, fpmconf_on_ini);
    snprintf(path, sizeof(path), "%s/conf.d/*.ini", directory);
    if (glob(path, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            fpmconf_parse(&source, found.gl_pathv[i], fpmconf_on_ini);
        }
        globfree(&found);
    }
}

int fpmconf_read(struct fpmconf *out, const char *file, const struct address *address)
{
    struct fpmconf_source source = {out, file, address};
    *out = (struct fpmconf){.backlog = 511};
    fpmconf_parse(&source, file, fpmconf_on_listen);
    if (source.address != NULL) {
        return -1;
    }
    snprintf(out->file, sizeof(out->file), "%s", file);
    fpmconf_read_directory(out); /* first: what the pool says counts more */
    fpmconf_parse(&source, file, fpmconf_on_pool);
    return 0;
}

int fpmconf_find(struct fpmconf *out, const char *root, const struct address *address)
{
    static const char *const patterns[] = {"%s/*/fpm/pool.d/*.conf", "%s/*/fpm/php-fpm.conf"};
    char path[512];
    int rc = -1;
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        glob_t found;
        snprintf(path, sizeof(path), patterns[i], root);
        if (glob(path, 0, NULL, &found) != 0) {
            continue;
        }
        for (size_t j = 0; rc != 0 && j < found.gl_pathc; j++) {
            rc = fpmconf_read(out, found.gl_pathv[j], address);
        }
        globfree(&found);
    }
    return rc;
}
