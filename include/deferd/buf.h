/*
 * A growing byte buffer.
 */
#ifndef DEFERD_BUF_H
#define DEFERD_BUF_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed, it is empty and owns nothing. */
struct buf {
    uint8_t *data; /* owned */
    size_t len;
    size_t cap;
};

/* Makes room for more bytes behind len. Returns 0 or UV_ENOMEM, then nothing has changed. */
int buf_reserve(struct buf *buf, size_t more);

/* Appends. Returns 0 or UV_ENOMEM, then nothing has changed. */
int buf_append(struct buf *buf, const void *data, size_t len);

void buf_free(struct buf *buf);

#endif
