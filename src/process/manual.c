/*
 * Happy path: walks the table scope by scope and says of each directive what it means, what is
 * allowed and what it is by default. What is allowed is asked of the directive itself, by giving it
 * a wrong value, so that the manual says what an error message would.
 */
#include "deferd/manual.h"

#include "deferd/config.h"
#include "deferd/directive.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* A scope, as people find it. */
struct manual_scope {
    enum directive_scope scope;
    const char *title;   /* of its part of the manual */
    const char *section; /* of its part of the sample; NULL: it goes on in the one before */
    const char *prefix;  /* of its directives' names */
};

static const struct manual_scope manual_scopes[] = {
    {DIRECTIVE_GLOBAL, "In [global]", "[global]", ""},
    {DIRECTIVE_POOL, "In a pool", "[www]", ""},
    {DIRECTIVE_UPSTREAM, "In a pool, for one upstream", NULL, "upstream[NAME]"},
    {DIRECTIVE_CLASS, "In a pool, for one class of requests", NULL, "class[NAME]"},
};

#define MANUAL_SCOPES (sizeof(manual_scopes) / sizeof(manual_scopes[0]))

/* What the sample says where a directive's default is nothing to look at; with a ; in front, an
 * example. */
struct manual_example {
    enum directive_scope scope;
    const char *name;
    const char *line;
};

static const struct manual_example manual_examples[] = {
    {DIRECTIVE_GLOBAL, "pid", "pid = /run/deferd/deferd.pid"},
    {DIRECTIVE_GLOBAL, "error_log", "error_log = /var/log/deferd/error.log"},
    {DIRECTIVE_GLOBAL, "user", "user = www-data"},
    {DIRECTIVE_GLOBAL, "control", "control = /run/deferd/control.sock"},
    {DIRECTIVE_GLOBAL, "stop_dir", "stop_dir = /run/deferd/stop"},
    {DIRECTIVE_GLOBAL, "group", ";group = www-data"},
    {DIRECTIVE_GLOBAL, "shutdown_timeout", ";shutdown_timeout = 5m"},
    {DIRECTIVE_POOL, "listen", "listen = /run/deferd/deferd.sock"},
    {DIRECTIVE_POOL, "listen.owner", "listen.owner = www-data"},
    {DIRECTIVE_POOL, "listen.group", "listen.group = www-data"},
    {DIRECTIVE_POOL, "upstream.max_workers", "upstream.max_workers = 5"},
    {DIRECTIVE_POOL, "defer.max_workers", ";defer.max_workers = 50%"},
    {DIRECTIVE_POOL, "defer.timeout", ";defer.timeout = 10m"},
    {DIRECTIVE_UPSTREAM, "", "upstream = /run/php/php-fpm.sock"},
    {DIRECTIVE_UPSTREAM, "", ";upstream[second] = 127.0.0.1:9001"},
    {DIRECTIVE_UPSTREAM, "fpm_pool",
     ";upstream[third].fpm_pool = /etc/php/8.2/fpm/pool.d/www.conf"},
    {DIRECTIVE_UPSTREAM, "max_workers", ";upstream[second].max_workers = 8"},
    {DIRECTIVE_CLASS, "max_workers", ";class[reports].max_workers = 25%"},
    {DIRECTIVE_CLASS, "priority", ";class[reports].priority = 0"},
    {DIRECTIVE_CLASS, "queue.timeout", ";class[reports].queue.timeout = 2m"},
};

#define MANUAL_EXAMPLES (sizeof(manual_examples) / sizeof(manual_examples[0]))

/* --- about one directive ---------------------------------------------------------------------- */

/* What is allowed, without a full stop; empty if there is nothing to say beyond the metavar. */
static void manual_allowed(const struct directive *directive, char *out, size_t size)
{
    static const char *const begins[] = {"allowed is ", "allowed are "};
    /* As large as any scope's struct; a field of it is written if the value is not wrong at all. */
    struct pool_options *base = calloc(1, sizeof(*base) + sizeof(struct global_options));
    char err[512] = "";
    out[0] = '\0';
    if (base != NULL) {
        directive_set(directive, base, "\001", err, sizeof(err));
    }
    free(base);
    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
        size_t len = strlen(begins[i]);
        if (strncmp(err, begins[i], len) == 0) {
            /* Behind a semicolon it is about the value. */
            snprintf(out, size, "%.*s", (int)strcspn(err + len, ";"), err + len);
        }
    }
}

/* PREFIX.NAME; the upstream's address has no name of its own. */
static void manual_name(const char *prefix, const struct directive *directive, char *out,
                        size_t size)
{
    snprintf(out, size, "%s%s%s", prefix,
             prefix[0] != '\0' && directive->name[0] != '\0' ? "." : "", directive->name);
}

/* --- the manual page -------------------------------------------------------------------------- */

/* A sentence: a capital, a full stop, and nothing in it that troff takes for its own. */
static void manual_sentence(FILE *out, const char *before, const char *text)
{
    fputs(before, out);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '-') {
            fputs("\\-", out);
        } else if (*p == '\\') {
            fputs("\\e", out);
        } else {
            fputc(p == text && before[0] == '\0' ? toupper((unsigned char)*p) : *p, out);
        }
    }
    fputs(".\n", out);
}

static void manual_directive(FILE *out, const struct manual_scope *scope,
                             const struct directive *directive)
{
    char text[512];
    manual_name(scope->prefix, directive, text, sizeof(text));
    fprintf(out, ".TP\n.BI \"%s\" \" = %s\"\n", text, directive->type->metavar);
    manual_sentence(out, "", directive->help);
    manual_allowed(directive, text, sizeof(text));
    if (text[0] != '\0') {
        manual_sentence(out, "Allowed: ", text);
    }
    if (directive->initial != NULL && directive->initial[0] != '\0') {
        manual_sentence(out, "Default: ", directive->initial);
    }
}

void manual_print_directives(FILE *out)
{
    for (size_t i = 0; i < MANUAL_SCOPES; i++) {
        fprintf(out, ".SS \"%s\"\n", manual_scopes[i].title);
        for (unsigned j = 0; j < directive_count; j++) {
            if (directives[j].scope == manual_scopes[i].scope) {
                manual_directive(out, &manual_scopes[i], &directives[j]);
            }
        }
    }
}

/* --- the sample ------------------------------------------------------------------------------- */

/* Words in comment lines of at most 80 characters. */
static void manual_comment(FILE *out, const char *before, const char *text)
{
    size_t column = strlen(before) + 1;
    fprintf(out, ";%s%s", column > 1 ? " " : "", before);
    for (const char *word = text; *word != '\0';) {
        size_t len = strcspn(word, " ");
        if (column + 1 + len > 80) {
            fputs("\n;", out);
            column = 1;
        }
        fputc(' ', out);
        for (size_t i = 0; i < len; i++) {
            fputc(word == text && i == 0 && before[0] == '\0' ? toupper((unsigned char)word[i])
                                                              : word[i],
                  out);
        }
        column += 1 + len;
        word += len + strspn(word + len, " ");
    }
    fputs(".\n", out);
}

static void manual_sample(FILE *out, const struct directive *directive)
{
    char text[512];
    unsigned examples = 0;
    const char *initial = directive->initial != NULL ? directive->initial : "";
    fputc('\n', out);
    manual_comment(out, "", directive->help);
    manual_allowed(directive, text, sizeof(text));
    if (text[0] != '\0') {
        manual_comment(out, "Allowed:", text);
    }
    if (initial[0] != '\0') {
        manual_comment(out, "Default:", initial);
    }
    for (size_t i = 0; i < MANUAL_EXAMPLES; i++) {
        const struct manual_example *example = &manual_examples[i];
        if (example->scope == directive->scope && strcmp(example->name, directive->name) == 0) {
            fprintf(out, "%s\n", example->line);
            examples++;
        }
    }
    if (examples == 0) {
        fprintf(out, ";%s =%s%s\n", directive->name, initial[0] != '\0' ? " " : "", initial);
    }
}

void manual_print_sample(FILE *out)
{
    fputs("; deferd's configuration. deferd.conf(5) explains it; \"deferd -t\" tests it, \"deferd\n"
          "; --check\" looks at php-fpm's side too. What begins with ; is a comment: the default\n"
          "; of a directive, or an example. \"deferd -T\" prints all that is in effect.\n",
          out);
    for (size_t i = 0; i < MANUAL_SCOPES; i++) {
        const struct manual_scope *scope = &manual_scopes[i];
        if (scope->section != NULL) {
            fprintf(out, "\n%s\n", scope->section);
        }
        for (unsigned j = 0; j < directive_count; j++) {
            if (directives[j].scope == scope->scope) {
                manual_sample(out, &directives[j]);
            }
        }
    }
}
