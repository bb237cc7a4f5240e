/*
 * A new binary takes the master's process over.
 */
#ifndef DEFERD_UPGRADE_H
#define DEFERD_UPGRADE_H

#include "deferd/handover.h"
#include "deferd/options.h"

#include <stddef.h>

/* What an upgrade starts: the path this process was started by, which may be a link that is turned
 * to another file; or the file itself, if it was found by PATH. Returns 0 or -1. */
int upgrade_find_binary(const char *argv0, char *out, size_t size);

/* Executes it with what it is to take over. Returns only if that failed, which the log says then.
 */
void upgrade_execute(const char *binary, const char *argv0, const struct options *options,
                     const struct config *config, const struct handover *handover);

#endif
