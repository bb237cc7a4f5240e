/*
 * deferctl's answers as people read them.
 */
#ifndef DEFERD_VIEW_H
#define DEFERD_VIEW_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

/* How wide lines may be (0: any), how many there may be (0: any), and what ends each. */
struct view {
    FILE *out;
    size_t width;
    size_t rows;
    const char *end;
};

void view_status(const struct view *view, const json_t *status);
void view_pools(const struct view *view, const json_t *pools);
void view_list(const struct view *view, const json_t *phases);
void view_show(const struct view *view, const json_t *phase);
void view_help(const struct view *view, const json_t *commands);

#endif
