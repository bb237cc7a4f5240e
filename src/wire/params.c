#include "deferd/params.h"

#include <string.h>

/* Lengths below 128 take one byte; others four, with the top bit set. Returns the bytes used, 0 if
 * they are not all there. */
static size_t params_length(const uint8_t *data, size_t len, size_t *out)
{
    if (len < 1) {
        return 0;
    }
    if (data[0] < 0x80) {
        *out = data[0];
        return 1;
    }
    if (len < 4) {
        return 0;
    }
    *out = (size_t)(data[0] & 0x7f) << 24 | (size_t)data[1] << 16 | (size_t)data[2] << 8 | data[3];
    return 4;
}

size_t params_next(const uint8_t *data, size_t len, struct param *out)
{
    size_t n = params_length(data, len, &out->name_len);
    if (n == 0) {
        return 0;
    }
    size_t m = params_length(data + n, len - n, &out->value_len);
    if (m == 0) {
        return 0;
    }
    size_t head = n + m;
    /* Each length is below 2^31, so the sum cannot overflow 64 bits; compare without adding len. */
    if (out->name_len > len - head || out->value_len > len - head - out->name_len) {
        return 0;
    }
    out->name = data + head;
    out->value = out->name + out->name_len;
    return head + out->name_len + out->value_len;
}

size_t params_put_short(uint8_t *out, const char *name, const char *value)
{
    size_t name_len = strlen(name);
    size_t value_len = strlen(value);
    out[0] = (uint8_t)name_len;
    out[1] = (uint8_t)value_len;
    memcpy(out + 2, name, name_len);
    memcpy(out + 2 + name_len, value, value_len);
    return 2 + name_len + value_len;
}

size_t params_fit(const uint8_t *data, size_t len, size_t max)
{
    size_t total = 0;
    struct param param;
    while (total < len) {
        size_t n = params_next(data + total, len - total, &param);
        if (n == 0 || total + n > max) {
            break;
        }
        total += n;
    }
    return total;
}
