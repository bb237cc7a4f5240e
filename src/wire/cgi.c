#include "deferd/cgi.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static int cgi_line_is(const uint8_t *line, size_t len, const char *name)
{
    size_t n = strlen(name);
    return len > n && strncasecmp((const char *)line, name, n) == 0 && line[n] == ':';
}

/* Three digits after optional blanks, 100 to 999; 0 if there are none. */
static int cgi_status_value(const uint8_t *value, size_t len)
{
    size_t i = 0;
    while (i < len && (value[i] == ' ' || value[i] == '\t')) {
        i++;
    }
    int status = 0;
    int digits = 0;
    while (i < len && digits < 3 && value[i] >= '0' && value[i] <= '9') {
        status = status * 10 + (value[i] - '0');
        i++;
        digits++;
    }
    return digits == 3 && status >= 100 ? status : 0;
}

static void cgi_head_line(struct cgi_head *head, const uint8_t *line, size_t len)
{
    if (cgi_line_is(line, len, "Status")) {
        head->status = cgi_status_value(line + 7, len - 7);
    } else if (cgi_line_is(line, len, "Location")) {
        head->location = 1;
    }
}

size_t cgi_head_scan(struct cgi_head *head, const uint8_t *data, size_t len)
{
    for (;;) {
        const uint8_t *lf = memchr(data + head->scanned, '\n', len - head->scanned);
        if (lf == NULL) {
            head->scanned = len;
            return 0;
        }
        size_t end = (size_t)(lf - data);
        size_t line_len = end - head->line;
        if (line_len > 0 && data[end - 1] == '\r') {
            line_len--;
        }
        if (line_len == 0) {
            return end + 1;
        }
        cgi_head_line(head, data + head->line, line_len);
        head->line = end + 1;
        head->scanned = end + 1;
    }
}

int cgi_head_status(const struct cgi_head *head)
{
    if (head->status != 0) {
        return head->status;
    }
    return head->location ? 302 : 200;
}

const char *cgi_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 431:
        return "Request Header Fields Too Large";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    default:
        return "Error";
    }
}

size_t cgi_error_page(char *out, size_t size, int status, const char *text, unsigned retry_after,
                      int head_only)
{
    char body[512];
    char retry[40] = "";
    const char *reason = cgi_reason(status);
    int body_len = snprintf(body, sizeof(body),
                            "<!DOCTYPE html>\n<html><head><title>%d %s</title></head>\n"
                            "<body><h1>%d %s</h1><p>%s</p></body></html>\n",
                            status, reason, status, reason, text);
    if (body_len < 0 || (size_t)body_len >= sizeof(body)) {
        return 0;
    }
    if (retry_after > 0) {
        snprintf(retry, sizeof(retry), "Retry-After: %u\r\n", retry_after);
    }
    int n = snprintf(out, size,
                     "Status: %d %s\r\nContent-Type: text/html; charset=utf-8\r\n"
                     "Cache-Control: no-store\r\n%sContent-Length: %d\r\n\r\n%s",
                     status, reason, retry, body_len, head_only ? "" : body);
    return n < 0 || (size_t)n >= size ? 0 : (size_t)n;
}
