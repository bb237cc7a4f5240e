#include "deferd/format.h"

#include "deferd/item.h"
#include "deferd/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define FORMAT_ITEMS_MAX 64

/* Of one line: what is left to texts of deferd's own when peers' texts have taken all they may. */
#define FORMAT_RESERVE 1024

struct format {
    struct item items[FORMAT_ITEMS_MAX];
    unsigned count;
    unsigned headers; /* items that show a response header; the note's first places */
    unsigned params;  /* items that show a param; its last */
    unsigned peers;   /* items that show what a peer sent */
    size_t literals;  /* bytes of texts between the items */
};

/* --- compiling -------------------------------------------------------------------------------- */

static struct item *format_item(struct format *format, int quoted, char *err, size_t err_size)
{
    if (format->count == FORMAT_ITEMS_MAX) {
        snprintf(err, err_size, "allowed are at most %d items", FORMAT_ITEMS_MAX);
        return NULL;
    }
    struct item *item = &format->items[format->count++];
    item->quoted = quoted;
    return item;
}

/* Text up to the next item. Returns how much it takes, 0 with a sentence in err. */
static size_t format_literal_at(struct format *format, const char *text, int *quoted, char *err,
                                size_t err_size)
{
    size_t len = 0;
    struct item *item = format_item(format, *quoted, err, err_size);
    if (item == NULL) {
        return 0;
    }
    item_set_literal(item);
    while (text[len] != '\0' && text[len] != '%' && len < sizeof(item->name) - 1) {
        *quoted ^= text[len] == '"';
        len++;
    }
    memcpy(item->name, text, len);
    format->literals += len;
    return len;
}

/* An item; text is behind its %. Returns how much it takes, 0 with a sentence in err. */
static size_t format_item_at(struct format *format, const char *text, int quoted, char *err,
                             size_t err_size)
{
    size_t at = 0;
    struct item *item = format_item(format, quoted, err, err_size);
    if (item == NULL) {
        return 0;
    }
    if (text[0] == '%') {
        item_set_literal(item);
        item->name[0] = '%';
        format->literals++;
        return 1;
    }
    if (text[0] == '{') {
        size_t len = strcspn(text + 1, "}");
        if (text[1 + len] == '\0' || len == 0 || len >= sizeof(item->name)) {
            snprintf(err, err_size, "%%{ needs a name of at most %zu bytes, and a }",
                     sizeof(item->name) - 1);
            return 0;
        }
        memcpy(item->name, text + 1, len);
        at = len + 2;
    }
    if (text[at] == '\0') {
        snprintf(err, err_size, "a letter is missing behind the last %%");
        return 0;
    }
    return item_set(item, text[at], err, err_size) == 0 ? at + 1 : 0;
}

/* Response headers come first in the note, for they are noted first. */
static void format_number(struct format *format)
{
    for (unsigned i = 0; i < format->count; i++) {
        format->peers += format->items[i].kind->source != ITEM_OWN;
        if (format->items[i].kind->source == ITEM_HEADER) {
            format->items[i].note = ++format->headers;
        }
    }
    for (unsigned i = 0; i < format->count; i++) {
        if (format->items[i].kind->source == ITEM_PARAM) {
            format->items[i].note = format->headers + ++format->params;
        }
    }
}

int format_compile(struct format **out, const char *text, char *err, size_t err_size)
{
    int quoted = 0;
    struct format *format = calloc(1, sizeof(*format));
    if (format == NULL) {
        snprintf(err, err_size, "no memory");
        return -1;
    }
    for (size_t n; *text != '\0'; text += n) {
        n = *text == '%' ? format_item_at(format, text + 1, quoted, err, err_size)
                         : format_literal_at(format, text, &quoted, err, err_size);
        if (n == 0) {
            free(format);
            return -1;
        }
        n += *text == '%';
    }
    format_number(format);
    *out = format;
    return 0;
}

void format_free(struct format *format)
{
    free(format);
}

/* --- notes ------------------------------------------------------------------------------------ */

void format_note_response(const struct format *format, struct request *request, const uint8_t *data,
                          size_t len)
{
    for (unsigned i = 0; i < format->count && format->headers > 0; i++) {
        const struct item *item = &format->items[i];
        if (item->kind->source == ITEM_HEADER && item_note_header(item, request, data, len) != 0) {
            buf_free(&request->note);
            return;
        }
    }
}

void format_note_params(const struct format *format, struct request *request)
{
    if (format->headers > 0 && request->note.len == 0) {
        return; /* without them each of the params would stand in another one's place */
    }
    for (unsigned i = 0; i < format->count && format->params > 0; i++) {
        const struct item *item = &format->items[i];
        if (item->kind->source == ITEM_PARAM && item_note_param(item, request) != 0) {
            buf_free(&request->note);
            return;
        }
    }
}

size_t format_put(struct format *format, const struct request *request, enum outcome outcome,
                  char *out, size_t size)
{
    struct item_line line = {.request = request, .outcome = outcome, .out = out, .size = size - 1};
    size_t reserved = FORMAT_RESERVE + format->literals;
    line.now = request->ended;
    clock_gettime(CLOCK_REALTIME, &line.wall);
    line.room = line.size > reserved ? line.size - reserved : 0;
    line.peers = format->peers;
    for (unsigned i = 0; i < format->count; i++) {
        item_put(&format->items[i], &line);
    }
    out[line.at] = '\n';
    return line.at + 1;
}
