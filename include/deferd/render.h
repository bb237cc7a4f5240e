/*
 * A snapshot as text or XML, in php-fpm's layout. Everything that a peer wrote is made fit for the
 * format. Pure but for its memory.
 */
#ifndef DEFERD_RENDER_H
#define DEFERD_RENDER_H

#include "deferd/buf.h"

#include <jansson.h>

/* Each appends to out. Returns 0 or UV_ENOMEM. */
int render_text(struct buf *out, const json_t *snapshot);
int render_xml(struct buf *out, const json_t *snapshot);

#endif
