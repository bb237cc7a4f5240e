/*
 * Happy path: a client connects, sends a line, gets a line, and so on. Commands run one at a time,
 * each in a turn of the loop of its own, and after each one control is quiet for four times as long
 * as it took: so a flood of commands slows the data path by a fifth at most.
 * Failure modes: too many clients, a line that is too long: told so and closed; a client that does
 * not read its answer, or says nothing for long, is dropped; nobody else notices.
 */
#include "deferd/control.h"

#include "deferd/command.h"
#include "deferd/fpm_reload.h"
#include "deferd/log.h"
#include "deferd/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

/* Of each socket: who may only look must not lock out who may change something. */
#define CONTROL_CLIENTS_MAX 32

#define CONTROL_LINE_MAX 1024
#define CONTROL_QUIET    4
#define CONTROL_POLL_MS  20
#define CONTROL_REAP_MS  1000

/* How long a client may take to read a part of its answer, and may say nothing. */
#define CONTROL_SLOW_MS   10000
#define CONTROL_SILENT_MS 300000

struct control_client {
    uv_pipe_t pipe;
    uv_write_t write;
    struct control *control;       /* borrowed */
    struct control_socket *socket; /* where it has come in */
    struct control_client *prev, *next;
    char input[CONTROL_LINE_MAX];
    size_t have;
    size_t left;        /* of the answer, when it was looked at last */
    char *answer;       /* owned; on its way */
    uint64_t active_at; /* uv_now(); when it read or wrote something */
    int waiting;        /* its command is under way */
    int reading;
    int last; /* the answer is its last */
    int over; /* that was written; what still comes is dropped until the client's end */
};

static void control_close_sockets(struct control *control);
static void control_pump(struct control *control);
static void control_update_reading(struct control_client *client);

/* --- clients ---------------------------------------------------------------------------------- */

static void control_on_client_closed(uv_handle_t *handle)
{
    struct control_client *client = handle->data;
    free(client->answer);
    free(client);
}

static void control_close_client(struct control_client *client)
{
    struct control *control = client->control;
    if (uv_is_closing((uv_handle_t *)&client->pipe)) {
        return;
    }
    DL_DELETE(control->clients, client);
    client->socket->client_count--;
    if (control->asking == client) {
        control->asking = NULL;
    }
    fpm_reload_forget(control, client);
    peers_forget(&control->peers, client);
    uv_close((uv_handle_t *)&client->pipe, control_on_client_closed);
}

static void control_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct control_client *client = handle->data;
    (void)suggested;
    *buf =
        uv_buf_init(client->input + client->have, (unsigned)(sizeof(client->input) - client->have));
}

static void control_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct control_client *client = stream->data;
    (void)buf;
    if (nread < 0) {
        control_close_client(client);
        return;
    }
    if (client->over) {
        return;
    }
    client->have += (size_t)nread;
    client->active_at = uv_now(stream->loop);
    control_update_reading(client);
    control_pump(client->control);
}

/* Reads while there is room; also while a command is under way, to see the client's end. */
static void control_update_reading(struct control_client *client)
{
    int reading = client->have < sizeof(client->input) && (client->answer == NULL || client->over);
    if (reading && !client->reading) {
        uv_read_start((uv_stream_t *)&client->pipe, control_on_alloc, control_on_read);
    } else if (!reading && client->reading) {
        uv_read_stop((uv_stream_t *)&client->pipe);
    }
    client->reading = reading;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* To close while something lies unread would destroy the answer on its way. */
static void control_linger(struct control_client *client)
{
    int fd;
    client->over = 1;
    client->have = 0;
    if (client->control->draining || uv_fileno((uv_handle_t *)&client->pipe, &fd) != 0 ||
        shutdown(fd, SHUT_WR) != 0) {
        control_close_client(client);
        return;
    }
    control_update_reading(client);
}

static void control_on_written(uv_write_t *write, int status)
{
    struct control_client *client = write->handle->data;
    if (uv_is_closing((uv_handle_t *)&client->pipe)) {
        return;
    }
    free(client->answer);
    client->answer = NULL;
    client->active_at = uv_now(client->control->loop);
    if (status < 0) {
        control_close_client(client);
        return;
    }
    if (client->last) {
        control_linger(client);
        return;
    }
    control_update_reading(client);
    control_pump(client->control);
}

/* Sends text, which it takes over, as a line. */
static void control_send(struct control_client *client, char *text)
{
    size_t len = text != NULL ? strlen(text) : 0;
    char *line = text != NULL ? realloc(text, len + 2) : NULL;
    if (line == NULL) {
        free(text);
        control_close_client(client);
        return;
    }
    line[len] = '\n';
    uv_buf_t buf = uv_buf_init(line, (unsigned)len + 1);
    client->waiting = 0;
    client->answer = line;
    client->left = len + 1;
    client->active_at = uv_now(client->control->loop);
    if (uv_write(&client->write, (uv_stream_t *)&client->pipe, &buf, 1, control_on_written) != 0) {
        control_close_client(client);
        return;
    }
    control_update_reading(client);
}

static void control_answer_as(struct control_client *client, json_t *result, const char *why,
                              int denied)
{
    json_t *answer = json_object();
    json_object_set_new(answer, "ok", json_boolean(result != NULL));
    if (result != NULL) {
        json_object_set_new(answer, "result", result);
    } else {
        json_object_set_new(answer, "error", phase_text(why, strlen(why)));
        json_object_set_new(answer, "denied", json_boolean(denied));
    }
    char *text = json_dumps(answer, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
    json_decref(answer);
    control_send(client, text);
}

void control_answer(struct control_client *client, json_t *result, const char *why)
{
    control_answer_as(client, result, why, 0);
}

static void control_refuse(struct control_client *client, const char *why)
{
    client->last = 1;
    client->have = 0;
    if (client->control->asking == client) {
        client->control->asking = NULL; /* it has its answer; the master's may still come */
    }
    control_answer(client, NULL, why);
}

/* --- commands --------------------------------------------------------------------------------- */

static void control_run(struct control_client *client, char *line)
{
    struct command_call call = {.control = client->control, .client = client};
    client->waiting = 1;
    switch (command_run(&call, line, client->socket->rights)) {
    case COMMAND_DONE:
        control_answer(client, call.result, "no memory");
        break;
    case COMMAND_FAILED:
        control_answer_as(client, NULL, call.why, call.denied);
        break;
    case COMMAND_LATER:
        break;
    }
}

/* Takes the first line out of a client's input. Returns 0 if there is none. */
static int control_take_line(struct control_client *client, char *line)
{
    const char *lf = memchr(client->input, '\n', client->have);
    if (lf == NULL) {
        return 0;
    }
    size_t len = (size_t)(lf - client->input);
    memcpy(line, client->input, len);
    line[len] = '\0';
    client->have -= len + 1;
    memmove(client->input, lf + 1, client->have);
    control_update_reading(client);
    return strlen(line) == len ? 1 : -1;
}

/* The next client in turn with something to do. Returns 0 if there is none. */
static int control_serve_one(struct control *control)
{
    struct control_client *client = NULL;
    struct control_client *next = NULL;
    char line[CONTROL_LINE_MAX];
    DL_FOREACH_SAFE(control->clients, client, next)
    {
        if (client->waiting || client->over || client->answer != NULL) {
            continue;
        }
        int taken = control_take_line(client, line);
        if (taken == 0 && client->have < sizeof(client->input)) {
            continue;
        }
        DL_DELETE(control->clients, client); /* the others come first the next time */
        DL_APPEND(control->clients, client);
        if (taken > 0) {
            control_run(client, line);
        } else {
            control_refuse(client, taken < 0 ? "a line with a NUL byte" : "the line is too long");
        }
        return 1;
    }
    return 0;
}

static void control_on_turn(uv_timer_t *timer)
{
    struct control *control = timer->data;
    uint64_t begun = uv_hrtime();
    if (control_serve_one(control)) {
        uint64_t now = uv_hrtime();
        control->free_at = now + (now - begun) * CONTROL_QUIET;
        control_pump(control);
    }
}

static void control_pump(struct control *control)
{
    uint64_t now = uv_hrtime();
    if (!uv_is_active((uv_handle_t *)&control->turn)) {
        uint64_t ms = control->free_at > now ? (control->free_at - now) / 1000000 + 1 : 0;
        uv_timer_start(&control->turn, control_on_turn, ms, 0);
        uv_unref((uv_handle_t *)&control->turn);
    }
}

/* --- what takes its time ---------------------------------------------------------------------- */

static void control_on_poll(uv_timer_t *timer)
{
    struct control *control = timer->data;
    int waiting = fpm_reload_poll(control);
    if (!peers_poll(&control->peers) && !waiting) {
        uv_timer_stop(timer);
    }
}

void control_wait(struct control *control)
{
    uv_timer_start(&control->poll, control_on_poll, 0, CONTROL_POLL_MS);
    uv_unref((uv_handle_t *)&control->poll);
}

int control_ask(struct control *control, struct control_client *client, const char *what, char *err,
                size_t err_size)
{
    if (control->asked) {
        snprintf(err, err_size, "another command is with the master; try again");
        return -1;
    }
    control->asked = 1;
    control->asking = client;
    int rc = control->events.ask(control->events.arg, what, err, err_size);
    if (rc != 0) {
        control->asked = 0;
        control->asking = NULL;
    }
    return rc;
}

void control_master_answered(struct control *control, const char *why)
{
    struct control_client *client = control->asking;
    control->asking = NULL;
    uint64_t forcing = control->forcing;
    control->forcing = 0;
    if (forcing != 0) {
        if (why != NULL) {
            command_not_forced(control, forcing);
        }
        if (control->on_forced != NULL) {
            control->on_forced(control->on_forced_arg, forcing, why);
        }
    } else if (control->asked && client == NULL) {
        fpm_reload_signalled(control, why);
    }
    control->asked = 0;
    if (client != NULL) {
        if (why == NULL && forcing == 0) {
            /* What else clients ask the master for ends this process. Who connects once the answer
             * is out is for the next one: here a command would be refused, or lost. */
            control_close_sockets(control);
        }
        control_answer(client, why == NULL ? json_object() : NULL, why != NULL ? why : "");
    }
}

/* --- connections ------------------------------------------------------------------------------ */

/* Has a part of the answer been read since the last look? */
static int control_makes_progress(struct control_client *client)
{
    size_t left = uv_stream_get_write_queue_size((uv_stream_t *)&client->pipe);
    int progress = left < client->left;
    client->left = left;
    return progress;
}

static void control_on_reap(uv_timer_t *timer)
{
    struct control *control = timer->data;
    struct control_client *client = NULL;
    struct control_client *next = NULL;
    uint64_t now = uv_now(timer->loop);
    DL_FOREACH_SAFE(control->clients, client, next)
    {
        uint64_t limit =
            client->answer != NULL || client->over ? CONTROL_SLOW_MS : CONTROL_SILENT_MS;
        if (client->waiting || (client->answer != NULL && control_makes_progress(client))) {
            client->active_at = now;
        } else if (now - client->active_at >= limit) {
            control_close_client(client);
        }
    }
    if (control->clients == NULL) {
        uv_timer_stop(timer);
    }
}

static void control_on_connection(uv_stream_t *stream, int status)
{
    struct control_socket *listener = stream->data;
    struct control *control = listener->control;
    struct control_client *client = status == 0 ? calloc(1, sizeof(*client)) : NULL;
    if (client == NULL) {
        return;
    }
    uv_pipe_init(control->loop, &client->pipe, 0);
    client->pipe.data = client;
    client->control = control;
    client->socket = listener;
    client->active_at = uv_now(control->loop);
    DL_APPEND(control->clients, client);
    listener->client_count++;
    if (uv_accept(stream, (uv_stream_t *)&client->pipe) != 0) {
        control_close_client(client);
        return;
    }
    uv_unref((uv_handle_t *)&client->pipe);
    if (!uv_is_active((uv_handle_t *)&control->reap)) {
        uv_timer_start(&control->reap, control_on_reap, CONTROL_REAP_MS, CONTROL_REAP_MS);
        uv_unref((uv_handle_t *)&control->reap);
    }
    if (listener->client_count > 2 * CONTROL_CLIENTS_MAX) {
        control_close_client(client); /* not even a word for them: each holds a descriptor */
    } else if (listener->client_count > CONTROL_CLIENTS_MAX) {
        control_refuse(client, "too many clients of the control socket; try again");
    } else {
        control_update_reading(client);
    }
}

int control_open(struct control *control, struct proxy *proxy, const struct control_events *events)
{
    struct timespec now;
    uv_timer_t *timers[] = {&control->turn, &control->poll, &control->reap};
    clock_gettime(CLOCK_REALTIME, &now);
    control->started = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    control->loop = proxy->loop;
    control->proxy = proxy;
    control->events = *events;
    peers_open(&control->peers, control);
    for (size_t i = 0; i < sizeof(timers) / sizeof(timers[0]); i++) {
        uv_timer_init(control->loop, timers[i]);
        timers[i]->data = control;
    }
    return 0;
}

int control_listen(struct control *control, unsigned i, const struct listener *listener,
                   unsigned rights, char *err, size_t err_size)
{
    struct control_socket *socket = &control->sockets[i];
    uv_pipe_init(control->loop, &socket->pipe, 0);
    socket->pipe.data = socket;
    socket->control = control;
    socket->listener = *listener;
    socket->rights = rights;
    socket->open = 1;
    int rc = uv_pipe_open(&socket->pipe, listener->fd);
    if (rc == 0) {
        rc = uv_listen((uv_stream_t *)&socket->pipe, 64, control_on_connection);
    }
    if (rc != 0) {
        snprintf(err, err_size, "cannot listen on %s: %s", listener->address.text, uv_strerror(rc));
        return -1;
    }
    uv_unref((uv_handle_t *)&socket->pipe);
    control->remembers = 1;
    return 0;
}

/* --- what happens in the data path ------------------------------------------------------------ */

/* Nobody looks for a phase that had nothing to do and ended in order. Behind the bridges to
 * frameworks each response has one: they would push out what people look for. */
static int control_is_worth_a_place(const struct request *request, enum outcome outcome)
{
    return outcome != OUTCOME_COMPLETED || request->deferral.total > 0;
}

void control_request_ended(struct control *control, const struct request *request,
                           enum outcome outcome)
{
    if (!control->remembers || request->deferred == 0 || outcome == OUTCOME_ANSWERED ||
        !control_is_worth_a_place(request, outcome)) {
        return;
    }
    struct phase *phase = phase_copy(request, 0, outcome);
    if (phase != NULL) {
        history_add(&control->history, phase);
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

static void control_close_sockets(struct control *control)
{
    for (unsigned i = 0; i < CONTROL_SOCKETS; i++) {
        struct control_socket *socket = &control->sockets[i];
        if (socket->open) {
            socket->open = 0;
            address_unlink(&socket->listener);
            uv_close((uv_handle_t *)&socket->pipe, NULL);
        }
    }
}

void control_drain(struct control *control)
{
    struct control_client *client = NULL;
    struct control_client *next = NULL;
    control->draining = 1;
    control_close_sockets(control);
    peers_leave(&control->peers);
    fpm_reload_cancel(control, "deferd is ending, or reloading");
    DL_FOREACH_SAFE(control->clients, client, next)
    {
        client->last = 1;
        if (client->answer == NULL && client->waiting) {
            control_refuse(client, "deferd is ending, or reloading");
        } else if (client->answer == NULL) {
            control_close_client(client);
        }
    }
}

void control_close(struct control *control)
{
    if (control->loop == NULL) {
        return;
    }
    control_close_sockets(control);
    fpm_reload_cancel(control, "deferd is ending");
    while (control->clients != NULL) {
        control_close_client(control->clients);
    }
    peers_close(&control->peers);
    uv_close((uv_handle_t *)&control->turn, NULL);
    uv_close((uv_handle_t *)&control->poll, NULL);
    uv_close((uv_handle_t *)&control->reap, NULL);
}

void control_free(struct control *control)
{
    history_free(&control->history);
}
