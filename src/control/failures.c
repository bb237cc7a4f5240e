#include "deferd/failures.h"

#include "deferd/queue.h"
#include "deferd/request.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Returns how much there was room for. */
static size_t failures_copy(char *out, size_t size, const void *data, size_t len)
{
    size_t n = len < size ? len : size;
    if (n > 0) {
        memcpy(out, data, n);
    }
    return n;
}

/* Which task to name: one that failed, else the first that did not come to its end. */
static const struct task *failures_task(const struct deferral *deferral)
{
    const struct task *unfinished = NULL;
    for (size_t i = 0; i < deferral->named; i++) {
        const struct task *task = deferral->tasks[i];
        if (task->state == TASK_FAILED) {
            return task;
        }
        if (unfinished == NULL && (task->state == TASK_WAITING || task->state == TASK_RUNNING)) {
            unfinished = task;
        }
    }
    return unfinished;
}

static double failures_ms(uint64_t from, uint64_t to)
{
    return from != 0 && to > from ? (double)(to - from) / 1e6 : 0;
}

void failures_add(struct failures *failures, const struct request *request, enum outcome outcome)
{
    struct timespec now;
    struct failure *failure = &failures->ring[failures->count++ % FAILURES_KEPT];
    const struct head *head = &request->head;
    const struct task *task = failures_task(&request->deferral);

    clock_gettime(CLOCK_REALTIME, &now);
    failure->id = request->id;
    failure->time = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    failure->class = request->class != NULL ? request->class->options->name : NULL;
    failure->outcome = outcome;
    failure->status = request->status;
    failure->response_ms = failures_ms(request->submitted,
                                       request->answered != 0 ? request->answered : request->ended);
    failure->deferred_ms = failures_ms(request->deferred, request->ended);
    failure->method_len = failures_copy(failure->method, sizeof(failure->method), head->method.data,
                                        head->method.len);
    failure->uri_len =
        failures_copy(failure->uri, sizeof(failure->uri), head->uri.data, head->uri.len);
    snprintf(failure->task, sizeof(failure->task), "%s", task != NULL ? task->name : "");
}

const struct failure *failures_back(const struct failures *failures, unsigned back)
{
    if (back >= FAILURES_KEPT || back >= failures->count) {
        return NULL;
    }
    return &failures->ring[(failures->count - 1 - back) % FAILURES_KEPT];
}
