#include "deferd/phase.h"

#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/queue.h"
#include "deferd/request.h"
#include "deferd/stop.h"
#include "deferd/upstream.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

/* Where the next string goes. */
struct phase_room {
    char *at;
};

static const char *phase_put(struct phase_room *room, const void *data, size_t len)
{
    char *text = room->at;
    if (len > 0) {
        memcpy(text, data, len);
    }
    text[len] = '\0';
    room->at += len + 1;
    return text;
}

static size_t phase_text_size(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

static size_t phase_size(const struct request *request)
{
    const struct deferral *deferral = &request->deferral;
    size_t size = sizeof(struct phase) + deferral->named * sizeof(struct phase_task) +
                  request->head.method.len + 1 + request->head.uri.len + 1;
    for (size_t i = 0; i < deferral->named; i++) {
        const struct task *task = deferral->tasks[i];
        size += strlen(task->name) + 1 + phase_text_size(task->text) + phase_text_size(task->error);
    }
    return size;
}

static void phase_copy_task(struct phase_task *out, const struct task *task, uint64_t now,
                            struct phase_room *room)
{
    out->state = task->state;
    out->ratio = (double)task->ratio;
    out->ms = task->state == TASK_WAITING || task->state == TASK_SKIPPED ? -1 : task->ms;
    if (task->state == TASK_RUNNING) {
        out->ms = now > task->started ? (double)(now - task->started) : 0;
    }
    out->name = phase_put(room, task->name, strlen(task->name));
    out->text = task->text != NULL ? phase_put(room, task->text, strlen(task->text)) : NULL;
    out->error = task->error != NULL ? phase_put(room, task->error, strlen(task->error)) : NULL;
}

struct phase *phase_copy(const struct request *request, int live, enum outcome outcome)
{
    const struct deferral *deferral = &request->deferral;
    const struct pool *pool = request->pool;
    size_t size = phase_size(request);
    struct phase *phase = malloc(size);
    struct timespec now;
    if (phase == NULL) {
        return NULL;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    struct phase_room room = {(char *)&phase->tasks[deferral->named]};
    double age_ms = (double)((live ? uv_hrtime() : request->ended) - request->deferred) / 1e6;
    *phase = (struct phase){
        .size = size,
        .id = request->id,
        .pool = pool->options->name,
        .class = request->class->options->name,
        .upstream = request->upstream != NULL ? request->upstream->options->address.text : "",
        .pid = deferral->pid,
        .status = request->status,
        .started = (double)now.tv_sec + (double)now.tv_nsec / 1e9 - age_ms / 1e3,
        .age_ms = age_ms,
        .live = live,
        .stopping = request->stop != STOP_NONE,
        .outcome = outcome,
        .total = deferral->total,
        .done = deferral->done,
        .failed = deferral->failed,
        .skipped = deferral->skipped,
        .stray = deferral->stray,
        .task_count = deferral->named,
    };
    phase->method = phase_put(&room, request->head.method.data, request->head.method.len);
    phase->uri = phase_put(&room, request->head.uri.data, request->head.uri.len);
    for (size_t i = 0; i < deferral->named; i++) {
        phase_copy_task(&phase->tasks[i], deferral->tasks[i], uv_now(pool->loop), &room);
    }
    return phase;
}

const char *phase_state(const struct phase *phase)
{
    if (phase->live) {
        return phase->stopping ? "stopping" : "running";
    }
    return outcome_name(phase->outcome);
}

/* --- as JSON ---------------------------------------------------------------------------------- */

/* How many bytes at the end are the beginning of a character that was cut: 0 to 3. */
static size_t phase_torn(const unsigned char *bytes, size_t len)
{
    for (size_t cut = 1; cut <= 3 && cut <= len; cut++) {
        unsigned char c = bytes[len - cut];
        if (c >= 0xc2) {
            size_t whole = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
            return c <= 0xf4 && cut < whole ? cut : 0;
        }
        if (c < 0x80) {
            return 0;
        }
    }
    return 0;
}

json_t *phase_text(const void *data, size_t len)
{
    json_t *text = json_stringn(data, len);
    if (text == NULL) {
        text = json_stringn(data, len - phase_torn(data, len));
    }
    if (text == NULL) {
        char escaped[4 * 1024 + 1];
        text = json_string(log_escape(escaped, sizeof(escaped), data, len));
    }
    return text;
}

static json_t *phase_text_or_null(const char *text)
{
    return text != NULL ? phase_text(text, strlen(text)) : json_null();
}

/* Three decimals are enough; more would only be noise. */
static json_t *phase_number(double number)
{
    return json_real((double)(long long)(number * 1e3 + 0.5) / 1e3);
}

static json_t *phase_number_or_null(double number)
{
    return number < 0 ? json_null() : phase_number(number);
}

const char *phase_task_state(enum task_state state)
{
    static const char *const states[] = {
        [TASK_WAITING] = "waiting", [TASK_RUNNING] = "running", [TASK_DONE] = "done",
        [TASK_FAILED] = "failed",   [TASK_SKIPPED] = "skipped",
    };
    return states[state];
}

static json_t *phase_task_json(const struct phase_task *task)
{
    json_t *json = json_object();
    json_object_set_new(json, "name", phase_text(task->name, strlen(task->name)));
    json_object_set_new(json, "state", json_string(phase_task_state(task->state)));
    json_object_set_new(json, "ms", phase_number_or_null(task->ms));
    json_object_set_new(json, "ratio", phase_number_or_null(task->ratio));
    json_object_set_new(json, "text", phase_text_or_null(task->text));
    json_object_set_new(json, "error", phase_text_or_null(task->error));
    return json;
}

static void phase_add_full(const struct phase *phase, json_t *json)
{
    json_object_set_new(json, "upstream", json_string(phase->upstream));
    json_object_set_new(json, "status", json_integer(phase->status));
    json_object_set_new(json, "total", json_integer((json_int_t)phase->total));
    json_object_set_new(json, "done", json_integer((json_int_t)phase->done));
    json_object_set_new(json, "failed", json_integer((json_int_t)phase->failed));
    json_object_set_new(json, "skipped", json_integer((json_int_t)phase->skipped));
    json_object_set_new(json, "stray", json_integer((json_int_t)phase->stray));
}

json_t *phase_json(const struct phase *phase, int full)
{
    json_t *json = json_object();
    json_t *tasks = json_array();
    for (size_t i = 0; i < phase->task_count; i++) {
        json_array_append_new(tasks, phase_task_json(&phase->tasks[i]));
    }
    json_object_set_new(json, "id", json_integer((json_int_t)phase->id));
    json_object_set_new(json, "pool", json_string(phase->pool));
    json_object_set_new(json, "state", json_string(phase_state(phase)));
    json_object_set_new(json, "class", json_string(phase->class));
    json_object_set_new(json, "pid", phase->pid != 0 ? json_integer(phase->pid) : json_null());
    json_object_set_new(json, "method", phase_text(phase->method, strlen(phase->method)));
    json_object_set_new(json, "uri", phase_text(phase->uri, strlen(phase->uri)));
    json_object_set_new(json, "started", phase_number(phase->started));
    json_object_set_new(json, "age_ms", phase_number(phase->age_ms));
    json_object_set_new(json, "outcome",
                        phase->live ? json_null() : json_string(outcome_name(phase->outcome)));
    json_object_set_new(json, "tasks", tasks);
    if (full) {
        phase_add_full(phase, json);
    }
    return json;
}
