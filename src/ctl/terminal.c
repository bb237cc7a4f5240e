#include "deferd/terminal.h"

#include <langinfo.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

/* The longest cell. */
#define TERMINAL_CELL 1024

/* --- texts ------------------------------------------------------------------------------------ */

/* Changes the direction of what follows, or is not to be seen. */
static int terminal_is_deceptive(uint32_t c)
{
    return (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0x061c || c == 0xfeff;
}

/* Decodes one character of UTF-8. Returns its bytes, 1 with *c -1 for a byte that is none. */
static size_t terminal_decode(const char *text, int64_t *c)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
    *c = len == 1 ? p[0] : len > 0 ? p[0] & (0xff >> (len + 1)) : -1;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            *c = -1;
            return 1;
        }
        *c = *c << 6 | (p[i] & 0x3f);
    }
    return len > 0 ? len : 1;
}

/* One character, as it may be shown. Returns its width. */
static size_t terminal_show(char *out, size_t size, const char *text, size_t len, int64_t c)
{
    wchar_t wide;
    mbstate_t state = {0};
    if (c >= 0x20 && c < 0x7f && c != '\\') {
        snprintf(out, size, "%c", (char)c);
        return 1;
    }
    if (c >= 0xa0 && !terminal_is_deceptive((uint32_t)c) &&
        mbrtowc(&wide, text, len, &state) == len && iswprint((wint_t)wide) && wcwidth(wide) > 0) {
        snprintf(out, size, "%.*s", (int)len, text);
        return (size_t)wcwidth(wide);
    }
    int n = c >= 0x80 ? snprintf(out, size, "\\u{%llX}", (unsigned long long)c)
                      : snprintf(out, size, "\\x%02X", (unsigned char)text[0]);
    return (size_t)n;
}

size_t terminal_text(char *out, size_t size, const char *text, size_t width)
{
    char shown[16];
    const char *cut = strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? "…" : "~";
    size_t at = 0;
    size_t used = 0;
    size_t fits_at = 0; /* where the text would be cut, so that the mark still fits */
    size_t fits_used = 0;
    while (*text != '\0') {
        int64_t c;
        size_t len = terminal_decode(text, &c);
        size_t columns = terminal_show(shown, sizeof(shown), text, len, c);
        size_t bytes = strlen(shown);
        if ((width > 0 && used + columns > width) || at + bytes + sizeof("…") > size) {
            int n = snprintf(out + fits_at, size - fits_at, "%s", cut);
            return n > 0 ? fits_used + 1 : fits_used;
        }
        memcpy(out + at, shown, bytes);
        at += bytes;
        used += columns;
        if (width == 0 || used + 1 <= width) {
            fits_at = at;
            fits_used = used;
        }
        text += len;
    }
    out[at] = '\0';
    return used;
}

void terminal_duration(char *out, size_t size, double ms)
{
    unsigned long long s = (unsigned long long)((ms + 500) / 1000);
    if (ms < 999.5) {
        snprintf(out, size, "%.0fms", ms);
    } else if (ms < 59950) {
        snprintf(out, size, "%.1fs", ms / 1000);
    } else if (s < 3600) {
        snprintf(out, size, "%llum%02llus", s / 60, s % 60);
    } else if (s < 86400) {
        snprintf(out, size, "%lluh%02llum", s / 3600, s / 60 % 60);
    } else {
        snprintf(out, size, "%llud%02lluh", s / 86400, s / 3600 % 24);
    }
}

/* --- tables ----------------------------------------------------------------------------------- */

struct terminal_table {
    const char *const *heads; /* borrowed */
    size_t columns;
    size_t rows;
    char **cells;   /* owned, rows times columns, owned each */
    size_t *widths; /* owned */
};

static int terminal_is_right(const struct terminal_table *table, size_t column)
{
    const char *head = table->heads[column];
    return head[0] != '\0' && head[strlen(head) - 1] == '>';
}

struct terminal_table *terminal_table_new(const char *const *heads, size_t columns)
{
    struct terminal_table *table = calloc(1, sizeof(*table));
    size_t *widths = calloc(columns, sizeof(*widths));
    if (table == NULL || widths == NULL) {
        free(table);
        free(widths);
        return NULL;
    }
    *table = (struct terminal_table){.heads = heads, .columns = columns, .widths = widths};
    for (size_t i = 0; i < columns; i++) {
        widths[i] = strlen(heads[i]) - (size_t)terminal_is_right(table, i);
    }
    return table;
}

void terminal_table_add(struct terminal_table *table, const char *const *cells)
{
    char text[TERMINAL_CELL];
    size_t count = table->rows * table->columns;
    char **all = realloc(table->cells, (count + table->columns) * sizeof(*all));
    if (all == NULL) {
        return;
    }
    table->cells = all;
    table->rows++;
    for (size_t i = 0; i < table->columns; i++) {
        size_t width = terminal_text(text, sizeof(text), cells[i] != NULL ? cells[i] : "", 0);
        all[count + i] = strdup(cells[i] != NULL ? cells[i] : "");
        table->widths[i] = width > table->widths[i] ? width : table->widths[i];
    }
}

static void terminal_print_cell(const struct terminal_table *table, FILE *out, const char *cell,
                                size_t column, size_t *left)
{
    char text[TERMINAL_CELL];
    int last = column + 1 == table->columns;
    size_t width = table->widths[column] < *left ? table->widths[column] : *left;
    if (width == 0) {
        return;
    }
    size_t used = terminal_text(text, sizeof(text), cell, width);
    int pad = (int)(width > used ? width - used : 0);
    if (terminal_is_right(table, column)) {
        fprintf(out, "%*s%s", pad, "", text);
    } else {
        fprintf(out, "%s%*s", text, last ? 0 : pad, "");
    }
    *left -= width;
    if (!last && *left >= 2) {
        fputs("  ", out);
        *left -= 2;
    } else {
        *left = 0;
    }
}

void terminal_table_print(const struct terminal_table *table, FILE *out, size_t width, size_t rows,
                          const char *end)
{
    char head[64];
    size_t lines = rows == 0 || table->rows + 1 < rows ? table->rows + 1 : rows;
    for (size_t line = 0; line < lines; line++) {
        size_t left = width > 0 ? width : SIZE_MAX;
        for (size_t i = 0; i < table->columns; i++) {
            const char *cell = table->heads[i];
            if (line > 0) {
                cell = table->cells[(line - 1) * table->columns + i];
            } else if (terminal_is_right(table, i)) {
                snprintf(head, sizeof(head), "%.*s", (int)strlen(cell) - 1, cell);
                cell = head;
            }
            terminal_print_cell(table, out, cell != NULL ? cell : "", i, &left);
        }
        fputs(end, out);
    }
}

void terminal_table_free(struct terminal_table *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->rows * table->columns; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    free(table->widths);
    free(table);
}
