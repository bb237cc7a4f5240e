/*
 * The commands of the control socket: one table.
 */
#ifndef DEFERD_COMMAND_H
#define DEFERD_COMMAND_H

#include "deferd/control.h"

#include <jansson.h>
#include <stddef.h>

#define COMMAND_WORDS_MAX 8

/* One command on its way. */
struct command_call {
    struct control *control;        /* borrowed */
    struct control_client *client;  /* borrowed */
    char *words[COMMAND_WORDS_MAX]; /* the command's name first */
    unsigned count;
    json_t *result; /* what it answers */
    char why[512];  /* or why it failed, */
    int denied;     /* for lack of rights */
};

enum command_status {
    COMMAND_DONE,
    COMMAND_FAILED,
    COMMAND_LATER, /* control_answer follows */
};

/* Runs a line, which it changes, with these rights. */
enum command_status command_run(struct command_call *call, char *line, unsigned rights);

/* Ends the worker of a request by force. Returns 0 if that is done, 1 if the master is asked for
 * it, which then answers, or -1 with a sentence in err. client waits for that, or NULL. */
int command_force(struct control *control, struct control_client *client, struct request *request,
                  char *err, size_t err_size);

/* The master has not ended the worker of a request that was to be stopped by force. */
void command_not_forced(const struct control *control, uint64_t id);

/* The pool of this name, or NULL. */
struct pool *command_pool(const struct control *control, const char *name);

/* Is nothing under way in it, deferred phases and workers that drain included? */
int command_pool_is_idle(const struct control *control, const struct pool *pool);

#endif
