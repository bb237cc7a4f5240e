#include "deferd/queue.h"

#include "deferd/request.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include <uv.h>

unsigned share_of(const struct share *share, unsigned all)
{
    unsigned n = share->percent ? (unsigned)((uint64_t)all * share->number / 100) : share->number;
    if (n < 1) {
        return 1;
    }
    return n < all ? n : all;
}

int queue_open(struct queue *queue, const struct class_options *options, unsigned count,
               unsigned workers)
{
    *queue = (struct queue){.count = count};
    queue->classes = calloc(count, sizeof(*queue->classes));
    if (queue->classes == NULL) {
        return UV_ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        queue->classes[i].options = &options[i];
        queue->classes[i].max_workers = share_of(&options[i].max_workers, workers);
    }
    return 0;
}

struct queue_class *queue_class(const struct queue *queue, const uint8_t *name, size_t len)
{
    for (unsigned i = 0; i < queue->count; i++) {
        const char *known = queue->classes[i].options->name;
        if (strlen(known) == len && memcmp(known, name, len) == 0) {
            return &queue->classes[i];
        }
    }
    return NULL;
}

static int queue_by_age(const struct request *a, const struct request *b)
{
    return a->submitted < b->submitted ? -1 : a->submitted > b->submitted;
}

void queue_push(struct queue *queue, struct request *request, int again)
{
    if (again) {
        DL_INSERT_INORDER2(request->class->waiting, request, queue_by_age, queue_prev, queue_next);
    } else {
        DL_APPEND2(request->class->waiting, request, queue_prev, queue_next);
    }
    request->queued = 1;
    request->class->length++;
    queue->waiting++;
}

void queue_remove(struct queue *queue, struct request *request)
{
    DL_DELETE2(request->class->waiting, request, queue_prev, queue_next);
    request->queued = 0;
    request->class->length--;
    queue->waiting--;
}

struct request *queue_next(const struct queue *queue)
{
    const struct queue_class *best = NULL;
    for (unsigned i = 0; i < queue->count; i++) {
        const struct queue_class *class = &queue->classes[i];
        if (class->waiting == NULL || class->busy >= class->max_workers) {
            continue;
        }
        if (best == NULL || class->options->priority > best->options->priority ||
            (class->options->priority == best->options->priority &&
             class->waiting->submitted < best->waiting->submitted)) {
            best = class;
        }
    }
    return best != NULL ? best->waiting : NULL;
}

struct request *queue_oldest(const struct queue *queue, uint64_t *deadline)
{
    struct request *oldest = NULL;
    for (unsigned i = 0; i < queue->count; i++) {
        const struct queue_class *class = &queue->classes[i];
        if (class->waiting == NULL) {
            continue;
        }
        uint64_t at = class->waiting->submitted + class->options->queue_timeout * 1000000;
        if (oldest == NULL || at < *deadline) {
            oldest = class->waiting;
            *deadline = at;
        }
    }
    return oldest;
}

void queue_free(struct queue *queue)
{
    free(queue->classes);
    *queue = (struct queue){0};
}
