/*
 * Text for people: what others wrote made fit for a terminal, in columns.
 */
#ifndef DEFERD_TERMINAL_H
#define DEFERD_TERMINAL_H

#include <stddef.h>
#include <stdio.h>

/* Writes UTF-8 text to out, terminated, at most width columns wide (0: as wide as it is, as far as
 * size goes; a text that is cut ends in "…", or "~" where the locale has none). What would move the
 * cursor, change the text's direction, or cannot be shown becomes \xHH or \u{…}. Returns its width.
 */
size_t terminal_text(char *out, size_t size, const char *text, size_t width);

/* Milliseconds as people say them: 12ms, 3.4s, 5m06s, 2h05m, 3d04h. */
void terminal_duration(char *out, size_t size, double ms);

/* A table whose columns are as wide as they have to be. */
struct terminal_table;

/* heads: columns names; one that ends in ">" stands at the right. Returns NULL without memory. */
struct terminal_table *terminal_table_new(const char *const *heads, size_t columns);

/* One more row, of columns texts, NULL for nothing. */
void terminal_table_add(struct terminal_table *table, const char *const *cells);

/* Prints it, no line wider than width (0: any), at most rows lines (0: all), each ended by end. */
void terminal_table_print(const struct terminal_table *table, FILE *out, size_t width, size_t rows,
                          const char *end);

void terminal_table_free(struct terminal_table *table);

#endif
