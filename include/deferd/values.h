/*
 * The answer to GET_VALUES (spec 4.1). Pure.
 */
#ifndef DEFERD_VALUES_H
#define DEFERD_VALUES_H

#include <stddef.h>
#include <stdint.h>

#define VALUES_RECORD_MAX 256

/* Writes a GET_VALUES_RESULT record to out, VALUES_RECORD_MAX bytes, with those of the three
 * variables that the pairs in data name. Returns its length; 0 if the pairs are malformed. */
size_t values_answer(uint8_t *out, const uint8_t *data, size_t len, uint64_t max_conns);

#endif
