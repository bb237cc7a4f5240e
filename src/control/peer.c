/*
 * Happy path: a worker that drains hands over a stream; its lines say what its phases have come to,
 * which are kept here until they end and go into the history. A stop goes back to it.
 * Failure modes: it dies, or is cut: what was live then counts as lost, for nobody will hear how it
 * ends; it says what cannot be read: that line is left out; it does not answer: whoever asked is
 * told so; it says very much at once: reading rests four times as long as it took, as control does.
 */
#include "deferd/peer.h"

#include "deferd/control.h"
#include "deferd/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* The longest line: of a phase with all its tasks and texts. */
#define PEER_LINE_MAX (1U << 20)

#define PEER_QUIET     4
#define PEER_ANSWER_MS 5000

/* What a peer was asked. */
struct peer_stop {
    struct control_client *client; /* borrowed; waits for it */
    uint64_t id;
    uint64_t deadline; /* uv_now() */
    struct peer_stop *prev, *next;
};

static void peer_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf);

/* --- phases ----------------------------------------------------------------------------------- */

const struct phase *peer_phase_now(struct peer_phase *of)
{
    uint64_t now = uv_hrtime();
    phase_grow(of->phase, (double)(now - of->at) / 1e6);
    of->at = now;
    return of->phase;
}

static struct peer_phase *peer_find(const struct peer *peer, uint64_t id)
{
    struct peer_phase *found = NULL;
    HASH_FIND(hh, peer->by_id, &id, sizeof(id), found);
    return found;
}

/* Frees the entry. The phase is the caller's. */
static struct phase *peer_take_phase(struct peer *peer, struct peer_phase *of)
{
    struct phase *phase = of->phase;
    DL_DELETE(peer->phases, of);
    HASH_DEL(peer->by_id, of);
    peer->peers->bytes -= phase->size;
    free(of);
    return phase;
}

static void peer_drop_phase(struct peer *peer, struct peer_phase *of)
{
    if (of != NULL) {
        free(peer_take_phase(peer, of));
    }
}

/* One without a phase yet; NULL without memory. */
static struct peer_phase *peer_add_phase(struct peer *peer, uint64_t id)
{
    struct peer_phase *of = calloc(1, sizeof(*of));
    if (of == NULL) {
        return NULL;
    }
    of->id = id;
    HASH_ADD(hh, peer->by_id, id, sizeof(of->id), of);
    if (of->hh.tbl == NULL) {
        free(of);
        return NULL;
    }
    DL_APPEND(peer->phases, of);
    return of;
}

/* Takes the phase over: in the place of what was told of it before. */
static void peer_keep_phase(struct peer *peer, struct phase *phase)
{
    struct peers *peers = peer->peers;
    struct peer_phase *of = peer_find(peer, phase->id);
    size_t before = of != NULL ? of->phase->size : 0;
    if (peers->bytes - before + phase->size > PEERS_BYTES) {
        free(phase);
        return;
    }
    if (of == NULL) {
        of = peer_add_phase(peer, phase->id);
        if (of == NULL) {
            free(phase);
            return;
        }
    } else {
        free(of->phase);
    }
    of->phase = phase;
    of->at = uv_hrtime();
    peers->bytes += phase->size - before;
}

/* Takes it over. */
static void peer_remember(struct peer *peer, struct phase *phase)
{
    struct control *control = peer->peers->control;
    if (control->remembers) {
        history_insert(&control->history, phase);
    } else {
        free(phase);
    }
}

/* --- stops ------------------------------------------------------------------------------------ */

/* why: NULL if it was done. */
static void peer_answer_stop(struct peer *peer, struct peer_stop *stop, const char *why)
{
    struct control_client *client = stop->client;
    DL_DELETE(peer->stops, stop);
    free(stop);
    if (client != NULL) {
        control_answer(client, why == NULL ? json_object() : NULL, why);
    }
}

int peer_stop(struct peer *peer, struct control_client *client, uint64_t id, int force, char *err,
              size_t err_size)
{
    char line[64];
    struct peer_stop *stop = calloc(1, sizeof(*stop));
    int n = snprintf(line, sizeof(line), "stop %s%llu\n", force ? "--force " : "",
                     (unsigned long long)id);
    uv_buf_t buf = uv_buf_init(line, (unsigned)n);
    if (stop == NULL || uv_try_write((uv_stream_t *)&peer->pipe, &buf, 1) != n) {
        snprintf(err, err_size, "worker process %lld, which has the phase, cannot be asked",
                 peer->pid);
        free(stop);
        return -1;
    }
    stop->client = client;
    stop->id = id;
    stop->deadline = uv_now(peer->pipe.loop) + PEER_ANSWER_MS;
    DL_APPEND(peer->stops, stop);
    control_wait(peer->peers->control);
    return 0;
}

static void peer_on_stopped(struct peer *peer, uint64_t id, const char *why)
{
    struct peer_stop *stop = NULL;
    DL_FOREACH(peer->stops, stop)
    {
        if (stop->id == id) {
            break;
        }
    }
    if (stop != NULL) {
        peer_answer_stop(peer, stop, why);
    }
}

int peers_poll(struct peers *peers)
{
    char why[128];
    struct peer *peer = NULL;
    int waiting = 0;
    DL_FOREACH(peers->list, peer)
    {
        while (peer->stops != NULL && peer->stops->deadline <= uv_now(peer->pipe.loop)) {
            snprintf(why, sizeof(why), "worker process %lld, which has the phase, does not answer",
                     peer->pid);
            peer_answer_stop(peer, peer->stops, why);
        }
        waiting |= peer->stops != NULL;
    }
    return waiting;
}

void peers_forget(struct peers *peers, const struct control_client *client)
{
    struct peer *peer = NULL;
    struct peer_stop *stop = NULL;
    DL_FOREACH(peers->list, peer)
    {
        DL_FOREACH(peer->stops, stop)
        {
            stop->client = stop->client == client ? NULL : stop->client;
        }
    }
}

/* --- lines ------------------------------------------------------------------------------------ */

/* Returns 0 if the line says nothing. */
static int peer_on_json(struct peer *peer, const json_t *json)
{
    const json_t *worker = json_object_get(json, "worker");
    const json_t *stopped = json_object_get(json, "stop");
    const json_t *gone = json_object_get(json, "gone");
    if (worker != NULL) {
        peer->pid = json_integer_value(json_object_get(worker, "pid"));
        json_decref(peer->busy);
        peer->busy = json_incref(json_object_get(worker, "busy"));
        return 1;
    }
    if (stopped != NULL) {
        peer_on_stopped(peer, (uint64_t)json_integer_value(stopped),
                        json_string_value(json_object_get(json, "error")));
        return 1;
    }
    if (gone != NULL) {
        peer_drop_phase(peer, peer_find(peer, (uint64_t)json_integer_value(gone)));
        return 1;
    }
    int live = json_object_get(json, "live") != NULL;
    struct phase *phase = phase_parse(json_object_get(json, live ? "live" : "ended"));
    if (phase == NULL || phase->live != live) {
        free(phase);
        return 0;
    }
    if (live) {
        peer_keep_phase(peer, phase);
    } else {
        peer_drop_phase(peer, peer_find(peer, phase->id));
        peer_remember(peer, phase);
    }
    return 1;
}

static void peer_on_line(struct peer *peer, const struct lines_event *ev)
{
    json_t *json = ev->kind == LINES_LINE ? json_loadb(ev->data, ev->len, 0, NULL) : NULL;
    int understood = json != NULL && peer_on_json(peer, json);
    json_decref(json);
    if (!understood && !peer->warned) {
        peer->warned = 1;
        log_line(LOG_WARNING, "worker process %lld, which drains, tells what cannot be read",
                 peer->pid);
    }
}

/* --- streams ---------------------------------------------------------------------------------- */

static void peer_on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* Forgets it and all it has told. */
static void peer_close(struct peer *peer, const char *why)
{
    struct peers *peers = peer->peers;
    DL_DELETE(peers->list, peer);
    peers->count--;
    while (peer->stops != NULL) {
        peer_answer_stop(peer, peer->stops, why);
    }
    while (peer->phases != NULL) {
        peer_drop_phase(peer, peer->phases);
    }
    json_decref(peer->busy);
    lines_free(&peer->lines);
    uv_close((uv_handle_t *)&peer->pipe, peer_on_closed);
}

/* It has ended. Who ends in order has no phase any more. */
static void peer_on_end(struct peer *peer)
{
    while (peer->phases != NULL) {
        peer_phase_now(peer->phases);
        struct phase *phase = peer_take_phase(peer, peer->phases);
        phase_lose(phase);
        log_line(
            LOG_WARNING,
            "request %llu: its deferred phase is lost with worker process %lld, which drained; "
            "%zu of %zu tasks had not ended",
            (unsigned long long)phase->id, peer->pid, phase->total - phase_ended_tasks(phase),
            phase->total);
        peer_remember(peer, phase);
    }
    peer_close(peer, "the worker process that had the phase has ended");
}

static void peer_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    const struct peer *peer = handle->data;
    (void)suggested;
    *buf = uv_buf_init((char *)peer->peers->control->proxy->scratch, PROXY_SCRATCH);
}

static void peers_on_rested(uv_timer_t *timer)
{
    const struct peers *peers = timer->data;
    struct peer *peer = NULL;
    DL_FOREACH(peers->list, peer)
    {
        uv_read_start((uv_stream_t *)&peer->pipe, peer_on_alloc, peer_on_read);
    }
}

/* Requests come first. What took no time to speak of needs no rest. */
static void peer_rest(struct peer *peer, uint64_t took)
{
    uv_timer_t *timer = &peer->peers->rest;
    if (took * PEER_QUIET < 1000000) {
        return;
    }
    uv_read_stop((uv_stream_t *)&peer->pipe);
    uv_timer_start(timer, peers_on_rested, took * PEER_QUIET / 1000000, 0);
    uv_unref((uv_handle_t *)timer);
}

static void peer_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct peer *peer = stream->data;
    struct lines_event ev = {.kind = LINES_LINE};
    uint64_t begun = uv_hrtime();
    size_t at = 0;
    if (nread < 0) {
        peer_on_end(peer);
        return;
    }
    while (ev.kind != LINES_MORE) {
        at += lines_next(&peer->lines, (const uint8_t *)buf->base + at, (size_t)nread - at,
                         PEER_LINE_MAX, &ev);
        if (ev.kind != LINES_MORE) {
            peer_on_line(peer, &ev);
        }
    }
    peer_rest(peer, uv_hrtime() - begun);
}

int peers_adopt(struct peers *peers, int fd)
{
    if (peers->closed || peers->count == PEERS_MAX) {
        return UV_EMFILE;
    }
    struct peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        return UV_ENOMEM;
    }
    uv_pipe_init(peers->control->loop, &peer->pipe, 0);
    peer->pipe.data = peer;
    int rc = uv_pipe_open(&peer->pipe, fd);
    if (rc != 0) {
        uv_close((uv_handle_t *)&peer->pipe, peer_on_closed);
        return rc;
    }
    uv_read_start((uv_stream_t *)&peer->pipe, peer_on_alloc, peer_on_read);
    peer->peers = peers;
    DL_APPEND(peers->list, peer);
    peers->count++;
    uv_unref((uv_handle_t *)&peer->pipe);
    return 0;
}

/* --- all of them ------------------------------------------------------------------------------ */

struct peer_phase *peers_find(const struct peers *peers, uint64_t id, struct peer **owner)
{
    struct peer *peer = NULL;
    DL_FOREACH(peers->list, peer)
    {
        struct peer_phase *found = peer_find(peer, id);
        if (found != NULL) {
            *owner = peer;
            return found;
        }
    }
    return NULL;
}

/* Of all its pools, or those that this worker does not have. */
static uint64_t peer_sum(const struct peer *peer, int unknown)
{
    const char *pool;
    json_t *count;
    uint64_t busy = 0;
    json_object_foreach(peer->busy, pool, count)
    {
        if (!unknown || proxy_pool(peer->peers->control->proxy, pool) == NULL) {
            busy += (uint64_t)json_integer_value(count);
        }
    }
    return busy;
}

static int peer_is_idle(const struct peer *peer, const char *pool)
{
    return pool != NULL ? json_integer_value(json_object_get(peer->busy, pool)) <= 0
                        : peer_sum(peer, 1) == 0;
}

int peers_are_idle(const struct peers *peers, const char *pool)
{
    const struct peer *peer = NULL;
    int told = 0;
    DL_FOREACH(peers->list, peer)
    {
        if (peer->pid == 0 || !peer_is_idle(peer, pool)) {
            return 0;
        }
        told++;
    }
    return told >= peers->control->proxy->sharing;
}

unsigned peers_count_phases(const struct peers *peers, const char *pool)
{
    const struct peer *peer = NULL;
    const struct peer_phase *of = NULL;
    unsigned count = 0;
    DL_FOREACH(peers->list, peer)
    {
        DL_FOREACH(peer->phases, of)
        {
            count += pool == NULL || strcmp(of->phase->pool, pool) == 0;
        }
    }
    return count;
}

uint64_t peer_busy(const struct peer *peer)
{
    return peer_sum(peer, 0);
}

void peers_open(struct peers *peers, struct control *control)
{
    peers->control = control;
    uv_timer_init(control->loop, &peers->rest);
    peers->rest.data = peers;
}

void peers_leave(struct peers *peers)
{
    peers->closed = 1;
    while (peers->list != NULL) {
        peer_close(peers->list, "deferd is ending, or reloading");
    }
}

void peers_close(struct peers *peers)
{
    peers_leave(peers);
    uv_close((uv_handle_t *)&peers->rest, NULL);
}
