/*
 * The header block at the beginning of a CGI response (RFC 3875, section 6), and the responses that
 * deferd itself makes. Pure.
 */
#ifndef DEFERD_CGI_H
#define DEFERD_CGI_H

#include <stddef.h>
#include <stdint.h>

/* Where a scan of a header block stands. Zeroed, it stands at its first byte. */
struct cgi_head {
    size_t line;    /* offset of the first line that is not complete */
    size_t scanned; /* offset up to which no end of that line was found */
    int status;     /* from "Status:", 0 if there was none so far */
    int location;   /* a "Location:" was seen */
};

/* Looks for the end of the header block: an empty line; lines end with LF, with or without a CR.
 * data holds the response from its first byte on, also what earlier calls have seen. Returns the
 * length of the block with its empty line, or 0 while it is not complete. */
size_t cgi_head_scan(struct cgi_head *head, const uint8_t *data, size_t len);

/* The HTTP status of a complete block: Status, else 302 with a Location, else 200. */
int cgi_head_status(const struct cgi_head *head);

/* Writes a whole response, header block and a short HTML body (no body if head_only), into out;
 * retry_after: seconds for a Retry-After, 0 for none. Returns its length, or 0 if it does not fit.
 * text is shown to the user and must not hold anything a peer sent. */
size_t cgi_error_page(char *out, size_t size, int status, const char *text, unsigned retry_after,
                      int head_only);

/* "Bad Gateway", … for the statuses that deferd sends. */
const char *cgi_reason(int status);

#endif
