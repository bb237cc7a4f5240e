/*
 * A page that deferd itself makes: rendered once, shared by all who are being sent it, freed with
 * the last of them.
 */
#ifndef DEFERD_PAGE_H
#define DEFERD_PAGE_H

#include "deferd/buf.h"

#include <stddef.h>

/* The longest header block of one. */
#define PAGE_HEAD_MAX 1024

/* How much of one is given to a client at once; the rest waits until that is taken. */
#define PAGE_PIECE 32768

/* What all pages together may take up: readers that are slow must not be able to fill memory with
 * old ones. */
#define PAGE_BUDGET (16u << 20)

/* Bytes of pages that are alive. */
struct page_budget {
    size_t used;
};

struct page {
    unsigned refs;
    int status;                 /* HTTP */
    const char *type;           /* Content-Type; static */
    char policy[256];           /* Content-Security-Policy; empty for none */
    struct buf body;            /* owned */
    size_t counted;             /* of the body, in budget */
    struct page_budget *budget; /* borrowed */
};

/* A page with one reference. Takes the body over, also if it fails. NULL without memory, or if the
 * budget has no room. */
struct page *page_make(struct page_budget *budget, const char *type, struct buf *body);

/* The same of a text, which is not counted: for when there is no room. NULL without memory. */
struct page *page_text(struct page_budget *budget, int status, const char *text);

/* Another reference. */
struct page *page_hold(struct page *page);

/* A reference less. page may be NULL. */
void page_release(struct page *page);

/* Writes the header block of a CGI response, or of an HTTP/1.1 response on a connection that is
 * closed behind it; without_length: no Content-Length. Returns its length. */
size_t page_cgi_head(const struct page *page, char *out, size_t size, int without_length);
size_t page_http_head(const struct page *page, char *out, size_t size);

#endif
