/*
 * Going into the background, and the pid file.
 */
#ifndef DEFERD_DAEMON_H
#define DEFERD_DAEMON_H

#include <stddef.h>

/* Returns in the background process, detached from the terminal. The process that called it waits,
 * and ends with the status that daemon_ready says. Returns 0, or -1 with a sentence in err. */
int daemon_start(char *err, size_t err_size);

/* Tells the process that waits, if there is one, that all is ready, or why not. Later calls do
 * nothing. */
void daemon_ready(const char *why);

/* Writes the pid into this file and keeps it locked as long as this process lives; fd: of one that
 * is locked already, or -1. Returns the descriptor, or -1 with a sentence in err. */
int daemon_lock_pid(const char *path, int fd, char *err, size_t err_size);

/* Removes it, if this path is still that file's. */
void daemon_remove_pid(const char *path, int fd);

#endif
