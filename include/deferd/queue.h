/*
 * The requests that wait for a worker, by class. Within a class first come, first served; between
 * classes priority, then age. No I/O, no clock.
 */
#ifndef DEFERD_QUEUE_H
#define DEFERD_QUEUE_H

#include "deferd/stats.h"

#include <stddef.h>
#include <stdint.h>

struct request;

/* A number of workers, or a share of all of them. */
struct share {
    unsigned number; /* workers, or percent */
    int percent;
};

/* At least 1, at most all. */
unsigned share_of(const struct share *share, unsigned all);

#define CLASS_NAME_MAX 32

struct class_options {
    char name[CLASS_NAME_MAX]; /* what DEFERD_CLASS says; "default" for the rest */
    struct share max_workers;  /* slots its requests may hold at once */
    unsigned priority;         /* the higher goes first */
    uint64_t queue_timeout;    /* milliseconds a request may wait */
};

struct queue_class {
    const struct class_options *options; /* borrowed */
    struct request *waiting;             /* first come first; owned by nobody here */
    unsigned length;                     /* requests in waiting */
    unsigned max_workers;
    unsigned busy; /* slots its requests hold; kept by the pool */
    struct stats_class stats;
};

struct queue {
    struct queue_class *classes; /* owned; the first is the default class */
    unsigned count;
    unsigned waiting; /* requests in all classes */
};

/* options: count classes, at least 1, which stay the caller's. Returns 0 or UV_ENOMEM. */
int queue_open(struct queue *queue, const struct class_options *options, unsigned count,
               unsigned workers);

/* The class of this name, or NULL. */
struct queue_class *queue_class(const struct queue *queue, const uint8_t *name, size_t len);

/* A request of its class waits; again: it waited before, and goes where its age belongs. */
void queue_push(struct queue *queue, struct request *request, int again);

void queue_remove(struct queue *queue, struct request *request);

/* The request whose turn it is, or NULL: of the classes below their max_workers the one with the
 * highest priority, among those the one whose first request has waited longest. It stays where it
 * is. */
struct request *queue_next(const struct queue *queue);

/* The request whose time is up first, and when that is, in uv_hrtime()'s nanoseconds; or NULL. */
struct request *queue_oldest(const struct queue *queue, uint64_t *deadline);

void queue_free(struct queue *queue);

#endif
