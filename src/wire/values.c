#include "deferd/values.h"

#include "deferd/fcgi.h"
#include "deferd/params.h"

#include <stdio.h>

size_t values_answer(uint8_t *out, const uint8_t *data, size_t len, uint64_t max_conns)
{
    static const char *const names[] = {FCGI_MAX_CONNS, FCGI_MAX_REQS, FCGI_MPXS_CONNS};
    char max[24];
    size_t at = FCGI_HEADER_LEN;
    unsigned seen = 0;
    struct param param;

    snprintf(max, sizeof(max), "%llu", (unsigned long long)max_conns);
    while (len > 0) {
        size_t n = params_next(data, len, &param);
        if (n == 0) {
            return 0;
        }
        for (unsigned i = 0; i < 3; i++) {
            if (params_is(&param, names[i]) && (seen & 1u << i) == 0) {
                seen |= 1u << i;
                at += params_put_short(out + at, names[i], i < 2 ? max : "0");
            }
        }
        data += n;
        len -= n;
    }
    fcgi_put_header(out, FCGI_GET_VALUES_RESULT, FCGI_NULL_REQUEST_ID,
                    (uint16_t)(at - FCGI_HEADER_LEN), 0);
    return at;
}
