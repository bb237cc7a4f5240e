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
#include <unistd.h>
#include <uv.h>

#define PHASE_BRIEF_NS 100000000ULL

/* No time and no duration is that large. */
#define PHASE_NUMBER_MAX 1e12

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

static const char *phase_put_string(struct phase_room *room, const char *text)
{
    return text != NULL ? phase_put(room, text, strlen(text)) : NULL;
}

static size_t phase_text_size(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

int phase_is_shown(const struct request *request)
{
    return request->marker_seen || request->head.is_head ||
           uv_hrtime() - request->deferred >= PHASE_BRIEF_NS;
}

static const char *phase_upstream(const struct request *request)
{
    return request->upstream != NULL ? request->upstream->options->address.text : "";
}

static size_t phase_size(const struct request *request)
{
    const struct deferral *deferral = &request->deferral;
    size_t size = sizeof(struct phase) + deferral->named * sizeof(struct phase_task) +
                  strlen(request->pool->options->name) + 1 + strlen(request->class->options->name) +
                  1 + strlen(phase_upstream(request)) + 1 + request->head.method.len + 1 +
                  request->head.uri.len + 1;
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
    out->name = phase_put_string(room, task->name);
    out->text = phase_put_string(room, task->text);
    out->error = phase_put_string(room, task->error);
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
    uint64_t end = live ? uv_hrtime() : request->ended;
    uint64_t begun = request->deferred != 0 ? request->deferred : end;
    double age_ms = (double)(end - begun) / 1e6;
    *phase = (struct phase){
        .size = size,
        .id = request->id,
        .process = (long long)getpid(),
        .pool = phase_put_string(&room, pool->options->name),
        .class = phase_put_string(&room, request->class->options->name),
        .upstream = phase_put_string(&room, phase_upstream(request)),
        .pid = deferral->pid,
        .status = request->status,
        .content_length = request->head.content_length > 0 ? request->head.content_length : 0,
        .response_ms = (double)(begun - request->submitted) / 1e6,
        .started = (double)now.tv_sec + (double)now.tv_nsec / 1e9 - age_ms / 1e3,
        .age_ms = age_ms,
        .live = live,
        .stopping = request->stop != STOP_NONE,
        .held = live && request->state == REQUEST_HELD,
        .outcome = outcome,
        .total = deferral->total,
        .done = deferral->done,
        .failed = deferral->failed,
        .skipped = deferral->skipped,
        .stray = deferral->stray,
        .task_count = deferral->named,
    };
    phase->method_len = request->head.method.len;
    phase->method = phase_put(&room, request->head.method.data, phase->method_len);
    phase->uri_len = request->head.uri.len;
    phase->uri = phase_put(&room, request->head.uri.data, phase->uri_len);
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

/* Microseconds are enough; more would only be noise. */
static json_t *phase_number(double ms)
{
    return json_real((double)(long long)(ms * 1e3 + 0.5) / 1e3);
}

static json_t *phase_time(double seconds)
{
    return json_real((double)(long long)(seconds * 1e6 + 0.5) / 1e6);
}

static json_t *phase_number_or_null(double number)
{
    return number < 0 ? json_null() : phase_number(number);
}

#define PHASE_TASK_STATES 5

const char *phase_task_state(enum task_state state)
{
    static const char *const states[PHASE_TASK_STATES] = {
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
    json_object_set_new(json, "process", json_integer(phase->process));
    json_object_set_new(json, "upstream", json_string(phase->upstream));
    json_object_set_new(json, "status", json_integer(phase->status));
    json_object_set_new(json, "content_length", json_integer(phase->content_length));
    json_object_set_new(json, "response_ms", phase_number(phase->response_ms));
    json_object_set_new(json, "held", json_boolean(phase->held));
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
    json_object_set_new(json, "started", phase_time(phase->started));
    json_object_set_new(json, "age_ms", phase_number(phase->age_ms));
    json_object_set_new(json, "outcome",
                        phase->live ? json_null() : json_string(outcome_name(phase->outcome)));
    json_object_set_new(json, "tasks", tasks);
    if (full) {
        phase_add_full(phase, json);
    }
    return json;
}

/* --- and back --------------------------------------------------------------------------------- */

/* NULL if it is no string. */
static const char *phase_get(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

static const char *phase_get_text(const json_t *json, const char *key)
{
    const char *text = phase_get(json, key);
    return text != NULL ? text : "";
}

static double phase_get_real(const json_t *json, const char *key, double otherwise)
{
    const json_t *number = json_object_get(json, key);
    double value = json_is_number(number) ? json_number_value(number) : otherwise;
    return value >= 0 && value < PHASE_NUMBER_MAX ? value : otherwise;
}

static long long phase_get_integer(const json_t *json, const char *key)
{
    return json_integer_value(json_object_get(json, key));
}

static size_t phase_get_count(const json_t *json, const char *key)
{
    long long count = phase_get_integer(json, key);
    return count > 0 ? (size_t)count : 0;
}

/* Returns 0 if it is none. */
static int phase_parse_task(const json_t *json, struct phase_task *out, struct phase_room *room)
{
    const char *state = phase_get_text(json, "state");
    unsigned i = 0;
    while (i < PHASE_TASK_STATES && strcmp(state, phase_task_state((enum task_state)i)) != 0) {
        i++;
    }
    *out = (struct phase_task){
        .state = (enum task_state)i,
        .ms = phase_get_real(json, "ms", -1),
        .ratio = phase_get_real(json, "ratio", -1),
        .name = phase_put_string(room, phase_get_text(json, "name")),
        .text = phase_put_string(room, phase_get(json, "text")),
        .error = phase_put_string(room, phase_get(json, "error")),
    };
    return i < PHASE_TASK_STATES;
}

static size_t phase_parsed_size(const json_t *json, const json_t *tasks)
{
    static const char *const texts[] = {"pool", "class", "upstream", "method", "uri"};
    static const char *const task_texts[] = {"name", "text", "error"};
    size_t size = sizeof(struct phase) + json_array_size(tasks) * sizeof(struct phase_task);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        size += strlen(phase_get_text(json, texts[i])) + 1;
    }
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        for (size_t j = 0; j < sizeof(task_texts) / sizeof(task_texts[0]); j++) {
            size += strlen(phase_get_text(json_array_get(tasks, i), task_texts[j])) + 1;
        }
    }
    return size;
}

/* Returns OUTCOME_COUNT if it is none. */
static enum outcome phase_parse_outcome(const char *name)
{
    unsigned i = 0;
    while (name != NULL && i < OUTCOME_COUNT && strcmp(name, outcome_name((enum outcome)i)) != 0) {
        i++;
    }
    return name != NULL ? (enum outcome)i : OUTCOME_COUNT;
}

static void phase_parse_numbers(struct phase *phase, const json_t *json)
{
    phase->process = phase_get_integer(json, "process");
    phase->pid = phase_get_integer(json, "pid");
    phase->status = (int)phase_get_integer(json, "status");
    phase->content_length = phase_get_integer(json, "content_length");
    phase->response_ms = phase_get_real(json, "response_ms", 0);
    phase->started = phase_get_real(json, "started", 0);
    phase->age_ms = phase_get_real(json, "age_ms", 0);
    phase->held = json_is_true(json_object_get(json, "held"));
    phase->total = phase_get_count(json, "total");
    phase->done = phase_get_count(json, "done");
    phase->failed = phase_get_count(json, "failed");
    phase->skipped = phase_get_count(json, "skipped");
    phase->stray = phase_get_count(json, "stray");
}

struct phase *phase_parse(const json_t *json)
{
    const json_t *tasks = json_object_get(json, "tasks");
    long long id = phase_get_integer(json, "id");
    enum outcome outcome = phase_parse_outcome(phase_get(json, "outcome"));
    size_t count = json_array_size(tasks);
    size_t size = phase_parsed_size(json, tasks);
    int live = json_is_null(json_object_get(json, "outcome"));
    struct phase *phase = NULL;
    if (id > 0 && count <= DEFERRAL_TASKS_MAX && (live || outcome != OUTCOME_COUNT)) {
        phase = calloc(1, size);
    }
    if (phase == NULL) {
        return NULL;
    }
    struct phase_room room = {(char *)&phase->tasks[count]};
    phase->size = size;
    phase->id = (uint64_t)id;
    phase->live = live;
    phase->outcome = outcome;
    phase->stopping = live && strcmp(phase_get_text(json, "state"), "stopping") == 0;
    phase->task_count = count;
    phase->pool = phase_put_string(&room, phase_get_text(json, "pool"));
    phase->class = phase_put_string(&room, phase_get_text(json, "class"));
    phase->upstream = phase_put_string(&room, phase_get_text(json, "upstream"));
    phase->method = phase_put_string(&room, phase_get_text(json, "method"));
    phase->uri = phase_put_string(&room, phase_get_text(json, "uri"));
    phase->method_len = strlen(phase->method);
    phase->uri_len = strlen(phase->uri);
    phase_parse_numbers(phase, json);
    for (size_t i = 0; i < count; i++) {
        if (!phase_parse_task(json_array_get(tasks, i), &phase->tasks[i], &room)) {
            free(phase);
            return NULL;
        }
    }
    return phase;
}

void phase_grow(struct phase *phase, double ms)
{
    if (!phase->live) {
        return;
    }
    phase->age_ms += ms;
    for (size_t i = 0; i < phase->task_count; i++) {
        if (phase->tasks[i].state == TASK_RUNNING) {
            phase->tasks[i].ms += ms;
        }
    }
}

void phase_lose(struct phase *phase)
{
    phase->live = 0;
    phase->held = 0;
    phase->outcome = OUTCOME_LOST;
}

size_t phase_ended_tasks(const struct phase *phase)
{
    return phase->done + phase->failed + phase->skipped;
}

double phase_end(const struct phase *phase)
{
    return phase->started + phase->age_ms / 1e3;
}
