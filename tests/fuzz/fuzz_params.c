/*
 * Name-value pairs: whatever the bytes, a pair lies within them, and what fits into a record is as
 * many whole pairs as a walk over them counts.
 */
#include "deferd/params.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t max = (size_t)(data[0] << 8 | data[1]);
    size_t len = size - 2;
    size_t at = 0;
    size_t fits = 0;
    size_t n;
    struct param param;
    uint8_t *copy = malloc(len > 0 ? len : 1);
    fuzz_assert(copy != NULL);
    memcpy(copy, data + 2, len);
    while ((n = params_next(copy + at, len - at, &param)) > 0) {
        fuzz_assert(n <= len - at);
        fuzz_assert(param.name >= copy + at + 2 && param.name <= copy + at + 8);
        fuzz_assert(param.value == param.name + param.name_len);
        fuzz_assert(param.value + param.value_len == copy + at + n);
        /* Not a byte less would have done. */
        fuzz_assert(params_next(copy + at, n, &param) == n);
        fuzz_assert(params_next(copy + at, n - 1, &param) == 0);
        at += n;
        fits = at <= max && fits == at - n ? at : fits;
    }
    fuzz_assert(params_fit(copy, len, max) == fits);
    fuzz_assert(params_fit(copy, at, at) == at);
    free(copy);
    return 0;
}
