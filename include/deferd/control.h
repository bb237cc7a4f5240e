/*
 * The control socket: one command a line, one JSON answer a line (docs/control.md). It shares the
 * loop with the data path, and takes at most a fifth of its time.
 */
#ifndef DEFERD_CONTROL_H
#define DEFERD_CONTROL_H

#include "deferd/address.h"
#include "deferd/history.h"
#include "deferd/outcome.h"
#include "deferd/peer.h"
#include "deferd/proxy.h"

#include <jansson.h>
#include <stdint.h>
#include <uv.h>

struct control;
struct control_client;
struct fpm_reload;

/* What a socket allows. */
enum control_rights {
    CONTROL_READ = 1,
    CONTROL_CHANGE = 2,
};

#define CONTROL_SOCKETS 2

/* What control cannot do itself. */
struct control_events {
    /* Has the master do something: "reload", "upgrade", "quit", "fpm POOL", or what stop_force has
     * written. Returns 0, then
     * control_master_answered follows, perhaps at once; or -1 with a sentence in err. */
    int (*ask)(void *arg, const char *what, char *err, size_t err_size);
    /* Somebody has paused a pool, or lets it go on: whoever replaces this process is to know. */
    void (*paused)(void *arg, const struct pool *pool);
    void *arg;
};

struct control_socket {
    struct control *control; /* borrowed */
    uv_pipe_t pipe;
    struct listener listener;
    unsigned rights; /* enum control_rights */
    unsigned client_count;
    int open;
};

struct control {
    uv_loop_t *loop;     /* borrowed */
    struct proxy *proxy; /* borrowed */
    struct control_events events;
    struct control_socket sockets[CONTROL_SOCKETS];
    struct control_client *clients;
    struct control_client *asking; /* who waits for the master's answer; NULL: nobody, or gone */
    int asked;                     /* the master was asked and has not answered */
    uint64_t forcing; /* for the worker of this request to be ended; 0: for another thing */
    /* Hears of that end if another process waits for it: the teller. NULL without one. */
    void (*on_forced)(void *arg, uint64_t id, const char *why);
    void *on_forced_arg;
    struct fpm_reload *fpm; /* owned; the fpm-reload that is under way, or NULL */
    struct history history;
    struct peers peers; /* the workers that drain */
    double started;     /* Unix time */
    uint64_t free_at;   /* uv_hrtime(); before that no command is run */
    uv_timer_t turn;    /* runs the next command */
    uv_timer_t poll;    /* asks what waits for something whether it has happened */
    uv_timer_t reap;    /* drops clients that are slow or silent */
    int remembers;      /* keeps phases that ended: somebody may ask */
    int draining;
};

/* Prepares it; nothing listens yet. Returns 0 or UV_E…. */
int control_open(struct control *control, struct proxy *proxy, const struct control_events *events);

/* Listens on a bound socket, which it takes over. Returns 0, or -1 with a sentence in err. */
int control_listen(struct control *control, unsigned i, const struct listener *listener,
                   unsigned rights, char *err, size_t err_size);

/* A request ended; called for each. */
void control_request_ended(struct control *control, const struct request *request,
                           enum outcome outcome);

/* The master answers what it was asked; why: NULL if it went well. */
void control_master_answered(struct control *control, const char *why);

/* No more commands; answers that are on their way go out. Nothing of it keeps the loop. */
void control_drain(struct control *control);

/* Closes everything; the loop has to run once more before the memory goes. */
void control_close(struct control *control);

/* After that. */
void control_free(struct control *control);

/* For the commands. */

/* An answer to a client that waits for one; result is taken over, and NULL if the command failed,
 * then why says it. */
void control_answer(struct control_client *client, json_t *result, const char *why);

/* Asks the master for this client, or nobody. Returns 0 or -1 with a sentence in err. */
int control_ask(struct control *control, struct control_client *client, const char *what, char *err,
                size_t err_size);

/* Something is under way that fpm_reload_poll or peers_poll is to be asked about now and then. */
void control_wait(struct control *control);

#endif
