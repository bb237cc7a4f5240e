/*
 * In the worker that works: the workers that drain, as far as they tell of themselves (teller.h),
 * with their deferred phases.
 */
#ifndef DEFERD_PEER_H
#define DEFERD_PEER_H

#include "deferd/lines.h"
#include "deferd/phase.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* Without memory a phase is not shown; uthash would end the process. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct control;
struct control_client;
struct peer_stop;

/* More than this are not listened to. */
#define PEERS_MAX 64

/* What the live phases of all peers may take up, in bytes; further ones are not shown. */
#define PEERS_BYTES (16U << 20)

struct peer_phase {
    struct phase *phase; /* owned */
    uint64_t id;         /* the phase's */
    uint64_t at;         /* uv_hrtime() to which its times are brought up */
    UT_hash_handle hh;   /* in peer->by_id */
    struct peer_phase *prev, *next;
};

struct peer {
    uv_pipe_t pipe;
    struct peers *peers; /* borrowed */
    struct peer *prev, *next;
    long long pid; /* 0 until it has said something */
    json_t *busy;  /* owned; by pool: what peer_busy counts */
    struct lines lines;
    struct peer_phase *phases; /* that are live, in the order in which they were told */
    struct peer_phase *by_id;  /* the same, to be found */
    struct peer_stop *stops;   /* what it was asked and has not answered */
    int warned;                /* of lines that cannot be read */
};

struct peers {
    struct control *control; /* borrowed */
    struct peer *list;
    unsigned count;
    size_t bytes;    /* of all live phases */
    uv_timer_t rest; /* until which nothing is read */
    int closed;
};

void peers_open(struct peers *peers, struct control *control);

/* Listens to one more, at this descriptor, which it takes over. Returns 0 or UV_E…, then the
 * descriptor is the caller's. */
int peers_adopt(struct peers *peers, int fd);

/* This worker drains itself: forgets them; the next one listens to them. */
void peers_leave(struct peers *peers);

/* Closes what is left; the loop has to run once more before the memory goes. */
void peers_close(struct peers *peers);

/* The live phase of this id, and whose it is; NULL if there is none. */
struct peer_phase *peers_find(const struct peers *peers, uint64_t id, struct peer **owner);

/* The phase as it is now. */
const struct phase *peer_phase_now(struct peer_phase *of);

/* Does none of the workers that drain have a request for the pool of this name, or with NULL for
 * any pool that this worker does not have? Not before all of them have told of themselves. */
int peers_are_idle(const struct peers *peers, const char *pool);

/* How many live phases of the pool of this name they have; of all pools with NULL. */
unsigned peers_count_phases(const struct peers *peers, const char *pool);

/* Requests of all its pools that hold a worker, or wait for one and may get it. */
uint64_t peer_busy(const struct peer *peer);

/* Asks for a phase's end in the name of this client, which is answered later. Returns 0, or -1 with
 * a sentence in err. */
int peer_stop(struct peer *peer, struct control_client *client, uint64_t id, int force, char *err,
              size_t err_size);

/* Gives up what was not answered in time. Returns whether something is still waited for. */
int peers_poll(struct peers *peers);

/* The client is gone. */
void peers_forget(struct peers *peers, const struct control_client *client);

#endif
