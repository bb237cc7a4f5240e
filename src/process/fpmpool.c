#include "deferd/fpmpool.h"

#include "deferd/source.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FPMPOOL_LINE_MAX 4096

/* What was found in the file. */
struct fpmpool_file {
    struct fpmpool *pool;
    unsigned pools;
    char other[64]; /* the second pool's name */
    char max_children[32];
};

/* Puts value to out with name in place of $pool. */
static void fpmpool_expand(const char *value, const char *name, char *out, size_t size)
{
    const char *variable = strstr(value, "$pool");
    if (variable == NULL) {
        snprintf(out, size, "%s", value);
        return;
    }
    snprintf(out, size, "%.*s%s%s", (int)(variable - value), value, name, variable + 5);
}

static int fpmpool_handler(void *arg, const char *section, const char *name, const char *value)
{
    struct fpmpool_file *file = arg;
    struct fpmpool *pool = file->pool;
    char copy[FPMPOOL_LINE_MAX];
    const char *why;
    if (section[0] == '\0' || strcmp(section, "global") == 0) {
        return 1;
    }
    if (file->pools == 0) {
        file->pools = 1;
        snprintf(pool->name, sizeof(pool->name), "%s", section);
    } else if (strcmp(pool->name, section) != 0) {
        file->pools = 2;
        snprintf(file->other, sizeof(file->other), "%s", section);
    }
    snprintf(copy, sizeof(copy), "%s", value);
    const char *text = source_value(copy, &why);
    if (text != NULL && strcmp(name, "listen") == 0) {
        fpmpool_expand(text, section, pool->listen, sizeof(pool->listen));
    } else if (text != NULL && strcmp(name, "pm.max_children") == 0) {
        snprintf(file->max_children, sizeof(file->max_children), "%s", text);
    }
    return 1;
}

/* Where to connect to what listens like this: any address of this machine is its loopback's. */
static int fpmpool_connect(struct fpmpool *pool, char *err, size_t err_size)
{
    const char *listen = pool->listen;
    const char *colon = strrchr(listen, ':');
    size_t host = colon != NULL ? (size_t)(colon - listen) : 0;
    if (strchr(listen, '/') != NULL) {
        if (listen[0] != '/') {
            snprintf(err, err_size,
                     "listen = %s is relative to php-fpm's prefix; allowed is an "
                     "absolute path",
                     listen);
            return -1;
        }
        snprintf(pool->connect, sizeof(pool->connect), "%s", listen);
    } else if (listen[strspn(listen, "0123456789")] == '\0') {
        snprintf(pool->connect, sizeof(pool->connect), "127.0.0.1:%.16s", listen);
    } else if (colon != NULL && (strncmp(listen, "0.0.0.0", host) == 0 || listen[0] == '*')) {
        snprintf(pool->connect, sizeof(pool->connect), "127.0.0.1%.16s", colon);
    } else if (colon != NULL && host == 4 && strncmp(listen, "[::]", host) == 0) {
        snprintf(pool->connect, sizeof(pool->connect), "[::1]%.16s", colon);
    } else {
        snprintf(pool->connect, sizeof(pool->connect), "%s", listen);
    }
    return 0;
}

/* Is all there? */
static int fpmpool_finish(struct fpmpool_file *file, char *err, size_t err_size)
{
    struct fpmpool *pool = file->pool;
    char *end;
    if (file->pools == 0) {
        snprintf(err, err_size, "there is no pool in this file");
        return -1;
    }
    if (file->pools > 1) {
        snprintf(err, err_size, "[%s] and [%s] are in this file; allowed is a file with one pool",
                 pool->name, file->other);
        return -1;
    }
    if (pool->listen[0] == '\0') {
        snprintf(err, err_size, "[%s] has no listen", pool->name);
        return -1;
    }
    unsigned long children = strtoul(file->max_children, &end, 10);
    if (file->max_children[0] < '1' || file->max_children[0] > '9' || *end != '\0' ||
        children > 1000000) {
        snprintf(err, err_size, "[%s] has no pm.max_children, or a wrong one", pool->name);
        return -1;
    }
    pool->max_children = (unsigned)children;
    return fpmpool_connect(pool, err, err_size);
}

int fpmpool_read(struct fpmpool *out, const char *path, char *err, size_t err_size)
{
    struct fpmpool_file found = {.pool = out};
    struct stat st;
    *out = (struct fpmpool){0};
    FILE *file = fopen(path, "re");
    if (file == NULL || fstat(fileno(file), &st) != 0 || S_ISDIR(st.st_mode)) {
        snprintf(err, err_size, "cannot be read: %s", strerror(file != NULL ? EISDIR : errno));
        if (file != NULL) {
            fclose(file);
        }
        return -1;
    }
    ini_allow_multiline = false;
    ini_allow_inline_comments = false;
    ini_use_stack = false;
    ini_max_line = FPMPOOL_LINE_MAX;
    ini_initial_alloc = FPMPOOL_LINE_MAX;
    int rc = ini_parse_file(file, fpmpool_handler, &found);
    fclose(file);
    if (rc < 0) {
        snprintf(err, err_size, "no memory");
        return -1;
    }
    return fpmpool_finish(&found, err, err_size);
}
