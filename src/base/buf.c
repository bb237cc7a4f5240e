#include "deferd/buf.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

int buf_reserve(struct buf *buf, size_t more)
{
    if (more > SIZE_MAX - buf->len) {
        return UV_ENOMEM;
    }
    size_t need = buf->len + more;
    if (need <= buf->cap) {
        return 0;
    }
    size_t cap = buf->cap * 2 > need ? buf->cap * 2 : need;
    uint8_t *data = realloc(buf->data, cap);
    if (data == NULL) {
        return UV_ENOMEM;
    }
    buf->data = data;
    buf->cap = cap;
    return 0;
}

int buf_append(struct buf *buf, const void *data, size_t len)
{
    if (buf_reserve(buf, len) != 0) {
        return UV_ENOMEM;
    }
    if (len > 0) {
        memcpy(buf->data + buf->len, data, len);
        buf->len += len;
    }
    return 0;
}

void buf_free(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}
