/*
 * The format of access log lines: php-fpm's % letters, and deferd's own as %{NAME}x. Compiled once,
 * then filled in for each request.
 *
 * What peers sent is escaped as in the error log; outside of double quotes blanks are too, so that
 * a line can be taken apart again. What was not there is "-".
 */
#ifndef DEFERD_FORMAT_H
#define DEFERD_FORMAT_H

#include "deferd/outcome.h"

#include <stddef.h>
#include <stdint.h>

struct format;
struct request;

/* Compiles text. Returns 0; or -1 with a sentence in err: it is wrong, or asks for a secret, or for
 * what only php-fpm knows. */
int format_compile(struct format **out, const char *text, char *err, size_t err_size);

/* The request's response begins with this header block: notes what the format wants of it. */
void format_note_response(const struct format *format, struct request *request, const uint8_t *data,
                          size_t len);

/* The request's deferred phase begins, its params go: notes what the format wants of them. */
void format_note_params(const struct format *format, struct request *request);

/* Writes the line of a request that is over to out, its LF last. size is at least 2. Returns its
 * length. */
size_t format_put(struct format *format, const struct request *request, enum outcome outcome,
                  char *out, size_t size);

void format_free(struct format *format);

#endif
