/*
 * Happy path: one end of a socket pair goes to the worker that works; the other gets a line for
 * each phase, one for each that ended, and from then on, ten times a second, what has changed.
 *
 *     to the worker that works   {"worker":{"pid":N,"busy":{POOL:N}}}   first, and when it changes
 *                                {"live":PHASE}  {"ended":PHASE}        as show has it
 *                                {"gone":ID}                            it is live no more
 *                                {"stop":ID,"error":TEXT or null}       what became of a stop
 *     from it                    stop ID | stop --force ID
 *
 * Each line says all there is to say of its object, so none is needed to understand another.
 * Failure modes: nobody works, or the one that did has gone: another pair, and all of it again; it
 * does not read: nothing is waited for, and no more is kept than a piece that it did not take.
 */
#include "deferd/teller.h"

#include "deferd/command.h"
#include "deferd/history.h"
#include "deferd/phase.h"
#include "deferd/pool.h"
#include "deferd/request.h"
#include "deferd/stop.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define TELLER_ROUND_MS 100

/* How soon to try again what the socket did not take. */
#define TELLER_RETRY_MS 10

/* How long the end waits for a worker that does not read: seconds. */
#define TELLER_LAST 1

#define TELLER_LINE_MAX 128

/* How much is written at once. */
#define TELLER_PIECE 32768

/* Answers that nobody reads: whoever asks so much is not in order. */
#define TELLER_OUT_MAX (1U << 20)

static void teller_on_tick(uv_timer_t *timer);
static void teller_hang_up(struct teller *teller);

/* --- lines ------------------------------------------------------------------------------------ */

/* Takes json over. Without memory the line is left out. */
static void teller_put(struct teller *teller, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(json);
    if (text != NULL && buf_reserve(&teller->out, strlen(text) + 1) == 0) {
        buf_append(&teller->out, text, strlen(text));
        buf_append(&teller->out, "\n", 1);
    }
    free(text);
}

static void teller_put_phase(struct teller *teller, const char *key, const struct phase *phase)
{
    json_t *line = json_object();
    json_object_set_new(line, key, phase_json(phase, 1));
    teller_put(teller, line);
}

/* It rises with whatever changes what show says of a phase, but for ages. */
static uint64_t teller_version(const struct request *request)
{
    return 1 + request->deferral.reports + request->deferral.stray + request->stop +
           (request->state == REQUEST_DEFERRED);
}

static void teller_put_live(struct teller *teller, struct request *request)
{
    struct phase *phase = phase_copy(request, 1, OUTCOME_COUNT);
    request->told = teller_version(request);
    request->told_in = teller->round;
    if (phase != NULL) {
        teller_put_phase(teller, "live", phase);
    }
    free(phase);
}

/* Requests that run, or will without anybody's doing: drain and fpm-reload wait for their end, and
 * those of a paused pool for theirs. */
static unsigned teller_busy(const struct pool *pool)
{
    return pool->busy + (pool->paused ? 0 : pool->queue.waiting);
}

/* Returns 0 if all was said before. */
static int teller_put_worker(struct teller *teller)
{
    const struct proxy *proxy = teller->control->proxy;
    json_t *busy = json_object();
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        const struct pool *pool = &proxy->pools[i];
        json_object_set_new(busy, pool->options->name, json_integer(teller_busy(pool)));
    }
    char *text = json_dumps(busy, JSON_COMPACT);
    if (teller->greeted && text != NULL && teller->busy != NULL &&
        strcmp(text, teller->busy) == 0) {
        free(text);
        json_decref(busy);
        return 0;
    }
    free(teller->busy);
    teller->busy = text;
    teller->greeted = 1;
    json_t *worker = json_object();
    json_t *line = json_object();
    json_object_set_new(worker, "pid", json_integer((json_int_t)getpid()));
    json_object_set_new(worker, "busy", busy);
    json_object_set_new(line, "worker", worker);
    teller_put(teller, line);
    return 1;
}

/* --- what comes next -------------------------------------------------------------------------- */

/* A piece of those that have changed: each look goes through all. Returns 0 if there is none. */
static int teller_put_changed(struct teller *teller)
{
    const struct proxy *proxy = teller->control->proxy;
    int some = 0;
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        struct request *request = NULL;
        DL_FOREACH2(proxy->pools[i].phases, request, phase_next)
        {
            if (request->told_in == teller->round || request->told == teller_version(request) ||
                !phase_is_shown(request)) {
                continue;
            }
            teller_put_live(teller, request);
            some = 1;
            if (teller->out.len >= TELLER_PIECE) {
                return some;
            }
        }
    }
    return some;
}

static const struct phase *teller_next_ended(struct teller *teller)
{
    const struct history *history = &teller->control->history;
    uint64_t oldest = history->added - history->count;
    if (teller->next_ended < oldest) {
        teller->next_ended = oldest;
    }
    return teller->next_ended < history->added
               ? history_at(history, (unsigned)(teller->next_ended++ - oldest))
               : NULL;
}

/* Ended phases are told before it is said that they are live no more: at each moment one of both
 * holds. */
static int teller_put_gone(struct teller *teller)
{
    uint64_t id;
    if (teller->gone.len == 0) {
        return 0;
    }
    teller->gone.len -= sizeof(id);
    memcpy(&id, teller->gone.data + teller->gone.len, sizeof(id));
    json_t *line = json_object();
    json_object_set_new(line, "gone", json_integer((json_int_t)id));
    teller_put(teller, line);
    return 1;
}

/* The next lines of this round. Returns 0 if there is no more. */
static int teller_put_next(struct teller *teller)
{
    if (!teller->greeted) {
        return teller_put_worker(teller);
    }
    if (teller_put_changed(teller)) {
        return 1;
    }
    const struct phase *phase = teller_next_ended(teller);
    if (phase != NULL) {
        teller_put_phase(teller, "ended", phase);
        return 1;
    }
    return teller_put_gone(teller) || teller_put_worker(teller);
}

/* Returns 0 if all has gone, or UV_E…. */
static int teller_flush(struct teller *teller)
{
    while (teller->out_at < teller->out.len) {
        uv_buf_t rest = uv_buf_init((char *)teller->out.data + teller->out_at,
                                    (unsigned)(teller->out.len - teller->out_at));
        int n = uv_try_write((uv_stream_t *)&teller->pipe, &rest, 1);
        if (n < 0) {
            return n;
        }
        teller->out_at += (size_t)n;
    }
    teller->out.len = 0;
    teller->out_at = 0;
    return 0;
}

/* Says as much of this round as the socket takes. Returns 0 if that is all, or UV_E…. */
static int teller_say(struct teller *teller)
{
    int rc = teller_flush(teller);
    int more = 1;
    while (rc == 0 && more) {
        while (more && teller->out.len < TELLER_PIECE) {
            more = teller_put_next(teller);
        }
        rc = teller_flush(teller);
    }
    return rc;
}

/* --- what is asked ---------------------------------------------------------------------------- */

/* why: NULL if it went well. */
static void teller_put_stop(struct teller *teller, uint64_t id, const char *why)
{
    struct request *request = proxy_phase(teller->control->proxy, id);
    json_t *line = json_object();
    json_object_set_new(line, "stop", json_integer((json_int_t)id));
    json_object_set_new(line, "error", why == NULL ? json_null() : phase_text(why, strlen(why)));
    if (request != NULL) {
        teller_put_live(teller, request); /* whoever hears that it is done finds it done */
    }
    teller_put(teller, line);
}

/* What the master was asked for is done, or not. */
static void teller_on_forced(void *arg, uint64_t id, const char *why)
{
    struct teller *teller = arg;
    if (teller->open) {
        teller_put_stop(teller, id, why);
        teller_on_tick(&teller->timer);
    }
}

static void teller_on_stop(struct teller *teller, uint64_t id, int force)
{
    char err[256] = "it has ended meanwhile";
    struct request *request = proxy_phase(teller->control->proxy, id);
    int rc = request == NULL ? -1
             : force         ? command_force(teller->control, NULL, request, err, sizeof(err))
                             : stop_ask(request, err, sizeof(err));
    if (rc <= 0) {
        teller_put_stop(teller, id, rc == 0 ? NULL : err);
    }
}

static void teller_on_line(struct teller *teller, const struct lines_event *ev)
{
    char line[TELLER_LINE_MAX];
    unsigned long long id;
    snprintf(line, sizeof(line), "%.*s", (int)ev->len, ev->data);
    if (sscanf(line, "stop --force %llu", &id) == 1) {
        teller_on_stop(teller, id, 1);
    } else if (sscanf(line, "stop %llu", &id) == 1) {
        teller_on_stop(teller, id, 0);
    }
}

static void teller_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct teller *teller = handle->data;
    (void)suggested;
    *buf = uv_buf_init(teller->input, sizeof(teller->input));
}

static void teller_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct teller *teller = stream->data;
    struct lines_event ev = {.kind = LINES_LINE};
    size_t at = 0;
    (void)buf;
    if (nread < 0 || teller->out.len - teller->out_at > TELLER_OUT_MAX) {
        teller_hang_up(teller);
        return;
    }
    while (ev.kind != LINES_MORE) {
        at += lines_next(&teller->lines, (const uint8_t *)teller->input + at, (size_t)nread - at,
                         TELLER_LINE_MAX, &ev);
        if (ev.kind == LINES_LINE) {
            teller_on_line(teller, &ev);
        }
    }
    teller_on_tick(&teller->timer);
}

/* --- the stream ------------------------------------------------------------------------------- */

static void teller_on_closed(uv_handle_t *handle)
{
    struct teller *teller = handle->data;
    teller->closing = 0;
}

static void teller_hang_up(struct teller *teller)
{
    if (teller->open) {
        teller->open = 0;
        teller->closing = 1;
        lines_free(&teller->lines);
        uv_close((uv_handle_t *)&teller->pipe, teller_on_closed);
    }
}

/* Whoever reads on the new stream knows nothing yet. */
static void teller_forget(struct teller *teller)
{
    const struct proxy *proxy = teller->control->proxy;
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        struct request *request = NULL;
        DL_FOREACH2(proxy->pools[i].phases, request, phase_next)
        {
            request->told = 0;
        }
    }
    teller->greeted = 0;
    teller->next_ended = 0;
    teller->gone.len = 0;
    teller->out.len = 0;
    teller->out_at = 0;
}

static void teller_connect(struct teller *teller)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        return;
    }
    if (teller->events.hand_over(teller->events.arg, pair[1]) == 0) {
        uv_pipe_init(teller->control->loop, &teller->pipe, 0);
        teller->pipe.data = teller;
        teller->open = 1;
        teller_forget(teller);
        if (uv_pipe_open(&teller->pipe, pair[0]) == 0) {
            pair[0] = -1; /* the handle's */
            uv_read_start((uv_stream_t *)&teller->pipe, teller_on_alloc, teller_on_read);
            uv_unref((uv_handle_t *)&teller->pipe);
        } else {
            teller_hang_up(teller);
        }
    }
    close(pair[0]);
    close(pair[1]);
}

/* A round, or as much of one as goes. */
static void teller_on_tick(uv_timer_t *timer)
{
    struct teller *teller = timer->data;
    uint64_t delay = TELLER_ROUND_MS;
    if (!teller->open && !teller->closing && !teller->last) {
        teller_connect(teller);
    }
    if (teller->open) {
        int rc = teller_say(teller);
        if (rc == 0) {
            teller->round++;
        } else if (rc == UV_EAGAIN) {
            delay = TELLER_RETRY_MS;
        } else {
            teller_hang_up(teller);
        }
    }
    uv_timer_start(timer, teller_on_tick, delay, 0);
    uv_unref((uv_handle_t *)timer);
}

void teller_start(struct teller *teller, struct control *control,
                  const struct teller_events *events)
{
    if (teller->control != NULL) {
        return;
    }
    teller->control = control;
    teller->events = *events;
    teller->round = 1;
    control->on_forced = teller_on_forced;
    control->on_forced_arg = teller;
    uv_timer_init(control->loop, &teller->timer);
    teller->timer.data = teller;
    teller_on_tick(&teller->timer);
}

void teller_request_ended(struct teller *teller, const struct request *request)
{
    if (teller->control != NULL && request->told != 0) {
        buf_append(&teller->gone, &request->id, sizeof(request->id));
    }
}

void teller_last(struct teller *teller)
{
    teller->last = 1;
}

/* The loop does not run any more: what the socket does not take at once is waited for. */
static void teller_say_rest(struct teller *teller)
{
    const struct timeval wait = {TELLER_LAST, 0};
    int fd;
    if (uv_fileno((uv_handle_t *)&teller->pipe, &fd) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) != 0 ||
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) != 0) {
        return;
    }
    teller_say(teller);
}

/* A phase that was ended by force may take this process with it before the master says so. */
static void teller_answer_forced(struct teller *teller)
{
    uint64_t id = teller->control->forcing;
    if (id != 0 && proxy_phase(teller->control->proxy, id) == NULL) {
        teller_put_stop(teller, id, NULL);
        teller_flush(teller);
    }
}

void teller_close(struct teller *teller)
{
    if (teller->control == NULL) {
        return;
    }
    if (!teller->open && !teller->closing && !teller->last) {
        teller_connect(teller);
    }
    if (teller->open) {
        teller->round++;
        teller_say_rest(teller);
        teller_answer_forced(teller);
    }
    teller_hang_up(teller);
    uv_close((uv_handle_t *)&teller->timer, NULL);
}

void teller_free(struct teller *teller)
{
    buf_free(&teller->out);
    buf_free(&teller->gone);
    free(teller->busy);
}
