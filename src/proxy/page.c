#include "deferd/page.h"

#include "deferd/cgi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Expires and Cache-Control are php-fpm's; a page is never worth keeping. */
static const char page_headers[] =
    "Content-Type: %s\r\n"
    "Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    "Cache-Control: no-cache, no-store, must-revalidate, max-age=0\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n";

struct page *page_make(struct page_budget *budget, const char *type, struct buf *body)
{
    int fits = body->len <= PAGE_BUDGET - budget->used;
    struct page *page = fits ? calloc(1, sizeof(*page)) : NULL;
    if (page == NULL) {
        buf_free(body);
        return NULL;
    }
    page->refs = 1;
    page->status = 200;
    page->type = type;
    page->body = *body;
    *body = (struct buf){0};
    page->budget = budget;
    page->counted = page->body.len;
    budget->used += page->counted;
    return page;
}

struct page *page_text(struct page_budget *budget, int status, const char *text)
{
    struct page *page = calloc(1, sizeof(*page));
    if (page == NULL || buf_append(&page->body, text, strlen(text)) != 0) {
        free(page);
        return NULL;
    }
    page->refs = 1;
    page->status = status;
    page->type = "text/plain; charset=utf-8";
    page->budget = budget;
    return page;
}

struct page *page_hold(struct page *page)
{
    page->refs++;
    return page;
}

void page_release(struct page *page)
{
    if (page == NULL || --page->refs > 0) {
        return;
    }
    page->budget->used -= page->counted;
    buf_free(&page->body);
    free(page);
}

/* What begins the block, the headers, and the empty line. */
static size_t page_head(const struct page *page, char *out, size_t size, const char *first,
                        int length)
{
    char more[96] = "";
    if (length) {
        snprintf(more, sizeof(more), "Content-Length: %zu\r\n", page->body.len);
    }
    size_t at = (size_t)snprintf(out, size, "%s", first);
    at += (size_t)snprintf(out + at, size - at, page_headers, page->type);
    at += (size_t)snprintf(out + at, size - at, "%s%s%s%s\r\n",
                           page->policy[0] != '\0' ? "Content-Security-Policy: " : "", page->policy,
                           page->policy[0] != '\0' ? "\r\n" : "", more);
    return at;
}

size_t page_cgi_head(const struct page *page, char *out, size_t size, int without_length)
{
    char first[64];
    snprintf(first, sizeof(first), "Status: %d %s\r\n", page->status, cgi_reason(page->status));
    return page_head(page, out, size, first, !without_length);
}

size_t page_http_head(const struct page *page, char *out, size_t size)
{
    char first[96];
    snprintf(first, sizeof(first), "HTTP/1.1 %d %s\r\nConnection: close\r\n%s", page->status,
             cgi_reason(page->status), page->status == 405 ? "Allow: GET, HEAD\r\n" : "");
    return page_head(page, out, size, first, 1);
}
