#include "deferd/token.h"

#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#define TOKEN_BYTES (TOKEN_LEN / 2)

/* getrandom never returns less than asked for up to 256 bytes (getrandom(2)). */
static uint8_t token_pool[256];
static size_t token_left;

int token_make(char out[TOKEN_LEN + 1])
{
    static const char hex[] = "0123456789abcdef";
    if (token_left == 0) {
        if (getrandom(token_pool, sizeof(token_pool), 0) != (ssize_t)sizeof(token_pool)) {
            return -1;
        }
        token_left = sizeof(token_pool);
    }
    token_left -= TOKEN_BYTES;
    uint8_t *bytes = token_pool + token_left;
    for (size_t i = 0; i < TOKEN_BYTES; i++) {
        out[2 * i] = hex[bytes[i] >> 4];
        out[2 * i + 1] = hex[bytes[i] & 15];
    }
    out[TOKEN_LEN] = '\0';
    memset(bytes, 0, TOKEN_BYTES);
    return 0;
}
