/*
 * FastCGI name-value pairs (spec 3.4), as PARAMS and GET_VALUES carry them. Pure.
 */
#ifndef DEFERD_PARAMS_H
#define DEFERD_PARAMS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* One pair. name and value point into the bytes it was read from and are not terminated. */
struct param {
    const uint8_t *name;
    const uint8_t *value;
    size_t name_len;
    size_t value_len;
};

/* Reads the pair that starts at data. Returns the bytes it takes up, or 0 when it does not end
 * within len, which at the end of a stream means that the stream is malformed. */
size_t params_next(const uint8_t *data, size_t len, struct param *out);

/* Writes a pair of which neither half is longer than 127 bytes, in the one-byte length form.
 * Returns the bytes written: 2 + name_len + value_len. */
size_t params_put_short(uint8_t *out, const char *name, const char *value);

/* Is the pair's name this one? Inline, for with a constant name most pairs differ by length. */
static inline int params_is(const struct param *param, const char *name)
{
    size_t len = strlen(name);
    return param->name_len == len && memcmp(param->name, name, len) == 0;
}

/* How many bytes of data, whole pairs only, fit into one record of at most max bytes. 0 when the
 * first pair alone is longer. data must consist of whole pairs. php-fpm does not accept a pair
 * that crosses records (fact 15). */
size_t params_fit(const uint8_t *data, size_t len, size_t max);

#endif
