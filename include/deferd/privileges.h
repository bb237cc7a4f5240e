/*
 * Who a process runs as.
 */
#ifndef DEFERD_PRIVILEGES_H
#define DEFERD_PRIVILEGES_H

#include <stddef.h>
#include <sys/types.h>

/* Looks names up; -1 for empty ones, and for both if the process is not root. group: the user's own
 * if empty. Returns 0, or -1 with a sentence in err. */
int privileges_find(const char *user, const char *group, uid_t *uid, gid_t *gid, char *err,
                    size_t err_size);

/* Logs that they are ignored, if this process is not root and somebody else. */
void privileges_warn(const char *user, const char *group);

/* Becomes user and group for good, if the process is root; empty names change nothing. The other
 * groups are the user's, or without a user none. Returns 0, or -1 with a sentence in err. */
int privileges_drop(const char *user, const char *group, char *err, size_t err_size);

#endif
