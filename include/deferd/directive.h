/*
 * The directives of the configuration: one table, which parsing, -T, the command line's flags and
 * the manual page are made from.
 */
#ifndef DEFERD_DIRECTIVE_H
#define DEFERD_DIRECTIVE_H

#include <stddef.h>
#include <stdint.h>

/* Where a directive stands, and which struct its field is in. */
enum directive_scope {
    DIRECTIVE_GLOBAL,   /* [global]: struct global_options */
    DIRECTIVE_POOL,     /* [pool]: struct pool_options */
    DIRECTIVE_UPSTREAM, /* upstream[NAME].…: struct upstream_options */
    DIRECTIVE_CLASS,    /* class[NAME].…: struct class_options */
};

struct directive;

/* A kind of value. */
struct directive_type {
    /* Parses value into field. Returns 0, or -1 with what is wrong, and what is allowed, in err. */
    int (*set)(const struct directive *directive, void *field, const char *value, char *err,
               size_t err_size);
    /* The value as it would be written in a file; NULL: other directives' values say it all. */
    void (*print)(const struct directive *directive, const void *field, char *out, size_t size);
    const char *metavar; /* what help calls a value of it */
    /* The value for another process of deferd's, if that has more to know; otherwise NULL. */
    void (*hand_on)(const struct directive *directive, const void *field, char *out, size_t size);
};

struct directive {
    enum directive_scope scope;
    const char *name;
    const struct directive_type *type;
    size_t offset;       /* of its field in the scope's struct */
    uint64_t min, max;   /* of numbers, in the type's unit; of texts: max is the field's size */
    const char *initial; /* its default, NULL for a field that stays zero until it is set */
    const char *help;    /* one sentence without a full stop */
};

extern const struct directive directives[];
extern const unsigned directive_count;

/* NULL if there is none. */
const struct directive *directive_find(enum directive_scope scope, const char *name);

/* Sets a field of base, the scope's struct. Returns 0, or -1 with a sentence in err. */
int directive_set(const struct directive *directive, void *base, const char *value, char *err,
                  size_t err_size);

/* As it stands in a file, or with hand_on for another process of deferd's. */
void directive_print(const struct directive *directive, const void *base, int hand_on, char *out,
                     size_t size);

/* Sets all fields of a scope to their defaults; base is zeroed. */
void directive_defaults(enum directive_scope scope, void *base);

#endif
