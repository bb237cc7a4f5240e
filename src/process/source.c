#include "deferd/source.h"

#include <errno.h>
#include <glob.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Files that include files that include files: nobody needs more. */
#define SOURCE_DEPTH_MAX 8

/* Files in all: a file that many others include many times is a mistake. */
#define SOURCE_FILES_MAX 1024

/* The longest line, its LF included. */
#define SOURCE_LINE_MAX 4096

/* UTF-8's byte order mark, which some editors write. */
#define SOURCE_MARK "\xef\xbb\xbf"

/* A file that is being read. */
struct source {
    struct config *config;
    const struct source *from; /* the file that includes it, or NULL */
    FILE *file;
    const char *path;
    unsigned line;
    unsigned depth;
    unsigned *files; /* read so far, in all */
    dev_t dev;
    ino_t ino;
    char section[64]; /* the current one, also while it has no directives */
};

static void source_open(struct config *config, const char *path, const struct source *from,
                        const char *section);

/* --- values ----------------------------------------------------------------------------------- */

/* A value in quotes; text is behind the first. */
static char *source_quoted(char *text, const char **why)
{
    char *to = text;
    char *from = text;
    while (*from != '"' && *from != '\0') {
        if (from[0] == '\\' && (from[1] == '"' || from[1] == '\\')) {
            from++;
        }
        *to++ = *from++;
    }
    if (*from == '\0') {
        *why = "the closing quote is missing";
        return NULL;
    }
    const char *behind = from + 1 + strspn(from + 1, " \t\r\n");
    if (*behind != '\0' && *behind != ';') {
        *why = "something stands behind the closing quote; within quotes, write \\\" for one";
        return NULL;
    }
    *to = '\0';
    return text;
}

char *source_value(char *text, const char **why)
{
    text += strspn(text, " \t");
    if (*text == '"') {
        return source_quoted(text + 1, why);
    }
    for (char *p = text; (p = strchr(p, ';')) != NULL; p++) {
        if (p == text || p[-1] == ' ' || p[-1] == '\t') {
            *p = '\0';
            break;
        }
    }
    for (size_t len = strlen(text); len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL; len--) {
        text[len - 1] = '\0';
    }
    return text;
}

void source_print_value(FILE *out, const char *value)
{
    size_t len = strlen(value);
    if (len == 0 || (value[0] != '"' && strchr(value, ';') == NULL &&
                     strchr(" \t", value[0]) == NULL && strchr(" \t", value[len - 1]) == NULL)) {
        fputs(value, out);
        return;
    }
    fputc('"', out);
    for (const char *p = value; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            fputc('\\', out);
        }
        fputc(*p, out);
    }
    fputc('"', out);
}

/* --- lines ------------------------------------------------------------------------------------ */

static void source_error(const struct source *source, const char *what)
{
    config_error(source->config, "%s:%u: %s", source->path, source->line, what);
}

/* Reads a line, without its LF, as far as it fits. Returns what is wrong with it, or NULL; *end:
 * the file was at its end. */
static const char *source_get(struct source *source, char *line, size_t size, int *end)
{
    const char *wrong = NULL;
    size_t len = 0;
    int c = getc(source->file);
    *end = c == EOF;
    for (; c != EOF && c != '\n'; c = getc(source->file)) {
        if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f) {
            wrong = "a control character; is this a text file?";
        } else if (len + 1 == size) {
            wrong = "the line is too long; allowed are 4094 bytes";
        } else {
            line[len++] = (char)c;
        }
    }
    line[len] = '\0';
    return wrong;
}

/* A section is known from its first line on, also if nothing follows. */
static const char *source_section(const struct source *source, const char *line)
{
    char name[64];
    const char *end = strchr(line, ']');
    const char *behind = end != NULL ? end + 1 + strspn(end + 1, " \t\r") : NULL;
    if (end == NULL || (*behind != '\0' && *behind != ';')) {
        return "no section; write [NAME]";
    }
    snprintf(name, sizeof(name), "%.*s", (int)(end - line - 1), line + 1);
    char where[512];
    snprintf(where, sizeof(where), "%s:%u", source->path, source->line);
    config_section(source->config, where, name);
    return NULL;
}

/* inih's fgets: what is wrong by itself is said here, and becomes an empty line. */
static char *source_line(char *line, int size, void *arg)
{
    int end;
    struct source *source = arg;
    const char *wrong = source_get(source, line, (size_t)size, &end);
    if (end) {
        if (ferror(source->file)) {
            config_error(source->config, "%s: cannot be read: %s", source->path, strerror(errno));
        }
        return NULL;
    }
    source->line++;
    if (source->line == 1 && strncmp(line, SOURCE_MARK, sizeof(SOURCE_MARK) - 1) == 0) {
        memset(line, ' ', sizeof(SOURCE_MARK) - 1);
    }
    const char *first = line + strspn(line, " \t\r");
    if (wrong == NULL && first[0] == '[') {
        wrong = source_section(source, first);
    } else if (wrong == NULL && strchr(";#", first[0]) == NULL && strpbrk(first, "=:") == NULL) {
        wrong = "neither a section, nor a directive with its value";
    }
    if (wrong != NULL) {
        source_error(source, wrong);
        line[0] = '\0';
    }
    return line;
}

/* --- files ------------------------------------------------------------------------------------ */

/* path may be a pattern; without one it must be there. A path that is not absolute stands beside
 * the file that includes it: the master's own directory is another one once it is in the
 * background. */
static void source_include(const struct source *source, const char *path, const char *section)
{
    glob_t found;
    char beside[2 * SOURCE_LINE_MAX];
    const char *slash = strrchr(source->path, '/');
    if (path[0] != '/' && slash != NULL) {
        snprintf(beside, sizeof(beside), "%.*s/%s", (int)(slash - source->path), source->path,
                 path);
        path = beside;
    }
    if (strpbrk(path, "*?[") == NULL) {
        source_open(source->config, path, source, section);
        return;
    }
    if (glob(path, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            source_open(source->config, found.gl_pathv[i], source, section);
        }
        globfree(&found);
    }
}

static int source_handler(void *arg, const char *section, const char *name, const char *value)
{
    struct source *source = arg;
    char where[512];
    char copy[SOURCE_LINE_MAX];
    const char *why;
    const char *in = section[0] != '\0' ? section : source->section;

    snprintf(where, sizeof(where), "%s:%u", source->path, source->line);
    snprintf(copy, sizeof(copy), "%s", value);
    const char *text = source_value(copy, &why);
    if (text == NULL) {
        config_error(source->config, "%s: %s = %s: %s", where, name, value, why);
        return 1;
    }
    if (strcmp(name, "include") == 0) {
        source_include(source, text, in);
    } else if (in[0] == '\0') {
        config_error(source->config, "%s: %s: stands in no section; [global] or [POOL] comes first",
                     where, name);
    } else {
        config_set(source->config, where, in, name, text);
    }
    return 1;
}

static void source_parse(struct source *source)
{
    /* One line is one directive, as in php-fpm's files. Comments behind values are found here: inih
     * would find them within quotes too. */
    ini_allow_multiline = false;
    ini_allow_inline_comments = false;
    ini_use_stack = false;
    ini_max_line = SOURCE_LINE_MAX;
    ini_initial_alloc = SOURCE_LINE_MAX;
    int rc = ini_parse_stream(source_line, source, source_handler, source);
    if (rc < 0) {
        config_error(source->config, "%s: no memory", source->path);
    } else if (rc > 0) {
        config_error(source->config, "%s:%d: cannot be parsed", source->path, rc);
    }
}

/* Why a file is not to be read, or NULL. */
static const char *source_refused(const struct source *source)
{
    if (source->depth > SOURCE_DEPTH_MAX) {
        return "files include each other too deep; allowed are 8 levels";
    }
    if (*source->files > SOURCE_FILES_MAX) {
        return "too many files are included; allowed are 1024";
    }
    for (const struct source *from = source->from; from != NULL; from = from->from) {
        if (from->dev == source->dev && from->ino == source->ino) {
            return "it includes itself";
        }
    }
    return NULL;
}

/* from: the file that includes it, in this section; NULL if there is none. */
static void source_open(struct config *config, const char *path, const struct source *from,
                        const char *section)
{
    struct stat st = {0};
    unsigned first = 0;
    struct source source = {.config = config, .from = from, .path = path};
    snprintf(source.section, sizeof(source.section), "%s", section);
    source.files = from != NULL ? from->files : &first;
    source.depth = from != NULL ? from->depth + 1 : 0;
    source.file = fopen(path, "re");
    if (source.file == NULL || fstat(fileno(source.file), &st) != 0) {
        config_error(config, "%s: cannot be read: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode)) {
        config_error(config, "%s: cannot be read: it is no file", path);
    } else {
        source.dev = st.st_dev;
        source.ino = st.st_ino;
        ++*source.files;
        const char *refused = source_refused(&source);
        if (refused != NULL) {
            config_error(config, "%s: %s", path, refused);
        } else {
            source_parse(&source);
        }
    }
    if (source.file != NULL) {
        fclose(source.file);
    }
}

void source_read(struct config *config, const char *path)
{
    source_open(config, path, NULL, "");
}
