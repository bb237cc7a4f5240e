/*
 * deferctl top: what runs, live.
 */
#ifndef DEFERD_TOP_H
#define DEFERD_TOP_H

#include "deferd/link.h"

/* Runs until q, end of input or a signal; the terminal is then as before. */
enum link_status top_run(struct link *link);

#endif
