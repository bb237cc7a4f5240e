#include "deferd/command.h"

#include "deferd/commands.h"
#include "deferd/fpm_reload.h"
#include "deferd/log.h"
#include "deferd/pool.h"
#include "deferd/queue.h"
#include "deferd/request.h"
#include "deferd/server.h"
#include "deferd/stop.h"
#include "deferd/upstream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#ifndef DEFERD_VERSION
#define DEFERD_VERSION "unknown"
#endif

struct command {
    const char *name;
    const char *arguments;
    enum control_rights rights;
    unsigned min; /* words behind the name */
    unsigned max;
    enum command_status (*run)(struct command_call *call);
    const char *help;
};

__attribute__((format(printf, 2, 3))) static enum command_status
command_failed(struct command_call *call, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(call->why, sizeof(call->why), format, args);
    va_end(args);
    return COMMAND_FAILED;
}

static enum command_status command_done(struct command_call *call, json_t *result)
{
    call->result = result;
    return COMMAND_DONE;
}

/* --- looking ---------------------------------------------------------------------------------- */

struct pool *command_pool(const struct control *control, const char *name)
{
    return proxy_pool(control->proxy, name);
}

int command_pool_is_idle(const struct control *control, const struct pool *pool)
{
    return pool->busy == 0 && peers_are_idle(&control->peers, pool->options->name);
}

static json_int_t command_count_phases(const struct pool *pool)
{
    json_int_t count = 0;
    const struct request *request = NULL;
    DL_FOREACH2(pool->phases, request, phase_next)
    {
        count += phase_is_shown(request);
    }
    return count;
}

static double command_uptime(const struct control *control)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9 - control->started;
}

static void command_set_number(json_t *json, const char *key, uint64_t n)
{
    json_object_set_new(json, key, json_integer((json_int_t)n));
}

/* The workers that drain, as far as they tell of themselves. */
static json_t *command_draining(const struct control *control)
{
    json_t *list = json_array();
    const struct peer *peer = NULL;
    DL_FOREACH(control->peers.list, peer)
    {
        const struct peer_phase *of = NULL;
        uint64_t deferred = 0;
        json_t *json = json_object();
        DL_COUNT(peer->phases, of, deferred);
        json_object_set_new(json, "pid", json_integer(peer->pid));
        command_set_number(json, "busy", peer_busy(peer));
        command_set_number(json, "deferred", deferred);
        json_array_append_new(list, json);
    }
    return list;
}

static enum command_status command_status(struct command_call *call)
{
    const struct control *control = call->control;
    const struct proxy *proxy = control->proxy;
    json_t *json = json_object();
    json_t *outcomes = json_object();
    json_int_t deferred = 0;
    unsigned waiting = 0;
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        deferred += command_count_phases(&proxy->pools[i]);
        waiting += proxy->pools[i].queue.waiting;
    }
    for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
        uint64_t count = 0;
        for (unsigned j = 0; j < proxy->pool_count; j++) {
            count += stats_outcome(&proxy->pools[j], (enum outcome)i);
        }
        command_set_number(outcomes, outcome_name((enum outcome)i), count);
    }
    json_object_set_new(json, "version", json_string(DEFERD_VERSION));
    command_set_number(json, "pid", (uint64_t)getpid());
    json_object_set_new(json, "started", json_real(control->started));
    json_object_set_new(json, "uptime", json_real(command_uptime(control)));
    command_set_number(json, "pools", proxy->pool_count);
    command_set_number(json, "workers", proxy_workers(proxy));
    command_set_number(json, "busy", proxy_busy(proxy));
    command_set_number(json, "waiting", waiting);
    command_set_number(json, "deferred", (uint64_t)deferred);
    json_object_set_new(json, "draining", command_draining(control));
    command_set_number(json, "clients", proxy->client_count);
    command_set_number(json, "max_clients", proxy->max_conns);
    command_set_number(json, "requests", proxy->request_count);
    json_object_set_new(json, "outcomes", outcomes);
    return command_done(call, json);
}

static json_t *command_upstreams(const struct pool *pool)
{
    static const char *const barriers[] = {
        [UPSTREAM_BARRIER_UNKNOWN] = "unknown",
        [UPSTREAM_BARRIER_ASKING] = "unknown",
        [UPSTREAM_BARRIER_YES] = "yes",
        [UPSTREAM_BARRIER_NO] = "no",
    };
    json_t *list = json_array();
    for (unsigned i = 0; i < pool->options->upstream_count; i++) {
        const struct upstream *upstream = &pool->upstreams[i];
        json_t *json = json_object();
        json_object_set_new(json, "address", json_string(upstream->options->address.text));
        command_set_number(json, "workers", upstream->options->max_workers);
        command_set_number(json, "busy", upstream->busy);
        command_set_number(json, "idle", upstream->kept);
        json_object_set_new(json, "up", json_boolean(upstream_is_up(upstream)));
        json_object_set_new(json, "keeps", json_string(barriers[upstream->barrier]));
        json_array_append_new(list, json);
    }
    return list;
}

static json_t *command_classes(const struct pool *pool)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < pool->queue.count; i++) {
        const struct queue_class *class = &pool->queue.classes[i];
        json_t *json = json_object();
        json_object_set_new(json, "name", json_string(class->options->name));
        command_set_number(json, "workers", class->max_workers);
        command_set_number(json, "priority", class->options->priority);
        command_set_number(json, "busy", class->busy);
        command_set_number(json, "waiting", class->length);
        json_array_append_new(list, json);
    }
    return list;
}

static enum command_status command_pools(struct command_call *call)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < call->control->proxy->pool_count; i++) {
        const struct pool *pool = &call->control->proxy->pools[i];
        json_t *json = json_object();
        json_object_set_new(json, "name", json_string(pool->options->name));
        json_object_set_new(json, "listen", json_string(pool->options->listen.text));
        json_object_set_new(json, "paused", json_boolean(pool->paused));
        command_set_number(json, "workers", pool->workers);
        command_set_number(json, "busy", pool->busy);
        command_set_number(json, "waiting", pool->queue.waiting);
        command_set_number(json, "queue_max", pool->options->queue_max);
        json_object_set_new(json, "deferred", json_integer(command_count_phases(pool)));
        command_set_number(json, "draining",
                           peers_count_phases(&call->control->peers, pool->options->name));
        command_set_number(json, "held", stats_held(pool));
        command_set_number(json, "defer_max_workers", pool->places);
        json_object_set_new(json, "upstreams", command_upstreams(pool));
        json_object_set_new(json, "classes", command_classes(pool));
        json_array_append_new(list, json);
    }
    return command_done(call, list);
}

/* --- deferred phases -------------------------------------------------------------------------- */

/* Which phases list shows. */
struct command_filter {
    const char *word;
    int live;
    int ended;
    int any_outcome;
    enum outcome outcome;
};

static const struct command_filter command_filters[] = {
    {"--running", 1, 0, 1, OUTCOME_COUNT},   {"--all", 1, 1, 1, OUTCOME_COUNT},
    {"--stopped", 0, 1, 0, OUTCOME_STOPPED}, {"--completed", 0, 1, 0, OUTCOME_COMPLETED},
    {"--failed", 0, 1, 0, OUTCOME_FAILED},   {"--lost", 0, 1, 0, OUTCOME_LOST},
};

#define COMMAND_FILTERS (sizeof(command_filters) / sizeof(command_filters[0]))

/* The filters that a command's words name, a bit each; the first without any. -1 for an unknown
 * word. */
static int command_parse_filters(const struct command_call *call)
{
    int chosen = 0;
    for (unsigned i = 1; i < call->count; i++) {
        int bit = 0;
        for (unsigned j = 0; j < COMMAND_FILTERS; j++) {
            bit |= strcmp(call->words[i], command_filters[j].word) == 0 ? 1 << j : 0;
        }
        if (bit == 0) {
            return -1;
        }
        chosen |= bit;
    }
    return chosen != 0 ? chosen : 1;
}

static int command_filter_takes(int chosen, const struct phase *phase)
{
    for (unsigned i = 0; i < COMMAND_FILTERS; i++) {
        const struct command_filter *filter = &command_filters[i];
        if ((chosen & 1 << i) != 0 &&
            (phase->live
                 ? filter->live
                 : filter->ended && (filter->any_outcome || filter->outcome == phase->outcome))) {
            return 1;
        }
    }
    return 0;
}

/* Those of workers that drain are older. */
static void command_list_elsewhere(const struct control *control, int chosen, json_t *list)
{
    const struct peer *peer = NULL;
    DL_FOREACH(control->peers.list, peer)
    {
        struct peer_phase *of = NULL;
        DL_FOREACH(peer->phases, of)
        {
            if (command_filter_takes(chosen, of->phase)) {
                json_array_append_new(list, phase_json(peer_phase_now(of), 0));
            }
        }
    }
}

static void command_list_live(const struct control *control, int chosen, json_t *list)
{
    for (unsigned i = 0; i < control->proxy->pool_count; i++) {
        const struct request *request = NULL;
        DL_FOREACH2(control->proxy->pools[i].phases, request, phase_next)
        {
            struct phase *phase =
                phase_is_shown(request) ? phase_copy(request, 1, OUTCOME_COUNT) : NULL;
            if (phase != NULL && command_filter_takes(chosen, phase)) {
                json_array_append_new(list, phase_json(phase, 0));
            }
            free(phase);
        }
    }
}

/* The oldest first: those that ended, then those that are live. */
static enum command_status command_list(struct command_call *call)
{
    const struct control *control = call->control;
    int chosen = command_parse_filters(call);
    if (chosen < 0) {
        return command_failed(call, "list: allowed are --all, --running, --stopped, --completed, "
                                    "--failed and --lost");
    }
    json_t *list = json_array();
    for (unsigned i = 0; i < control->history.count; i++) {
        const struct phase *phase = history_at(&control->history, i);
        if (command_filter_takes(chosen, phase)) {
            json_array_append_new(list, phase_json(phase, 0));
        }
    }
    command_list_elsewhere(control, chosen, list);
    command_list_live(control, chosen, list);
    return command_done(call, list);
}

/* Returns 0, or -1 if the word is no id. */
static int command_parse_id(const char *word, uint64_t *id)
{
    char *end;
    errno = 0;
    *id = strtoull(word, &end, 10);
    return word[0] >= '0' && word[0] <= '9' && *end == '\0' && errno == 0 ? 0 : -1;
}

/* The phase of this id: of a worker that drains, or that ended last. */
static const struct phase *command_find_kept(const struct control *control, uint64_t id)
{
    struct peer *peer;
    struct peer_phase *found = peers_find(&control->peers, id, &peer);
    return found != NULL ? peer_phase_now(found) : history_find(&control->history, id);
}

static enum command_status command_show(struct command_call *call)
{
    uint64_t id;
    if (command_parse_id(call->words[1], &id) != 0) {
        return command_failed(call, "show: an id is a number");
    }
    const struct request *request = proxy_phase(call->control->proxy, id);
    if (request != NULL) {
        struct phase *live = phase_copy(request, 1, OUTCOME_COUNT);
        json_t *json = live != NULL ? phase_json(live, 1) : NULL;
        free(live);
        return command_done(call, json);
    }
    const struct phase *phase = command_find_kept(call->control, id);
    if (phase == NULL) {
        return command_failed(call,
                              "there is no deferred phase %llu among those that run and the "
                              "last that ended",
                              (unsigned long long)id);
    }
    return command_done(call, phase_json(phase, 1));
}

void command_not_forced(const struct control *control, uint64_t id)
{
    struct request *request = proxy_phase(control->proxy, id);
    if (request != NULL) {
        stop_not_forced(request);
    }
}

int command_force(struct control *control, struct control_client *client, struct request *request,
                  char *err, size_t err_size)
{
    char ask[128];
    if (stop_force(request, ask, sizeof(ask), err, err_size) != 0) {
        return -1;
    }
    if (ask[0] == '\0') {
        return 0;
    }
    if (control_ask(control, client, ask, err, err_size) != 0) {
        if (control->forcing != request->id) { /* or somebody else has just asked for the same */
            stop_not_forced(request);
        }
        return -1;
    }
    control->forcing = request->id;
    return 1;
}

/* One of a worker that drains, which answers. */
static enum command_status command_stop_elsewhere(struct command_call *call, uint64_t id, int force)
{
    struct peer *peer;
    if (peers_find(&call->control->peers, id, &peer) == NULL) {
        return command_failed(call, "no deferred phase %llu is under way", (unsigned long long)id);
    }
    return peer_stop(peer, call->client, id, force, call->why, sizeof(call->why)) == 0
               ? COMMAND_LATER
               : COMMAND_FAILED;
}

static enum command_status command_stop(struct command_call *call)
{
    uint64_t id;
    int force = call->count == 3;
    char err[256];
    if (force && strcmp(call->words[1], "--force") != 0) {
        return command_failed(call, "stop: allowed is stop ID or stop --force ID");
    }
    if (command_parse_id(call->words[call->count - 1], &id) != 0) {
        return command_failed(call, "stop: an id is a number");
    }
    struct request *request = proxy_phase(call->control->proxy, id);
    if (request == NULL) {
        return command_stop_elsewhere(call, id, force);
    }
    int rc = force ? command_force(call->control, call->client, request, err, sizeof(err))
                   : stop_ask(request, err, sizeof(err));
    if (rc > 0) {
        return COMMAND_LATER;
    }
    return rc == 0 ? command_done(call, json_object()) : command_failed(call, "%s", err);
}

/* --- pools ------------------------------------------------------------------------------------ */

static struct pool *command_named_pool(struct command_call *call)
{
    char name[256];
    struct pool *pool = command_pool(call->control, call->words[1]);
    if (pool == NULL) {
        command_failed(call, "there is no pool \"%s\"",
                       log_escape(name, sizeof(name), call->words[1], strnlen(call->words[1], 60)));
    }
    return pool;
}

static enum command_status command_pause(struct command_call *call)
{
    struct pool *pool = command_named_pool(call);
    if (pool == NULL) {
        return COMMAND_FAILED;
    }
    pool_pause(pool);
    call->control->events.paused(call->control->events.arg, pool);
    fpm_reload_leave_paused(call->control, pool);
    log_line(LOG_NOTICE, "[%s] is paused: requests wait", pool->options->name);
    return command_done(call, json_object());
}

static enum command_status command_resume(struct command_call *call)
{
    struct pool *pool = command_named_pool(call);
    if (pool == NULL) {
        return COMMAND_FAILED;
    }
    if (call->control->fpm != NULL) {
        return command_failed(call, "a drain or fpm-reload is under way");
    }
    pool_resume(pool);
    call->control->events.paused(call->control->events.arg, pool);
    log_line(LOG_NOTICE, "[%s] goes on", pool->options->name);
    return command_done(call, json_object());
}

static enum command_status command_begin(struct command_call *call, struct pool *pool, int reload)
{
    return fpm_reload_begin(call->control, call->client, pool, reload, call->why,
                            sizeof(call->why)) == 0
               ? COMMAND_LATER
               : COMMAND_FAILED;
}

static enum command_status command_drain(struct command_call *call)
{
    struct pool *pool = command_named_pool(call);
    if (pool == NULL || command_begin(call, pool, 0) == COMMAND_FAILED) {
        return COMMAND_FAILED;
    }
    call->control->events.paused(call->control->events.arg, pool);
    return COMMAND_LATER;
}

static enum command_status command_fpm_reload(struct command_call *call)
{
    struct pool *pool = NULL;
    if (call->count == 2) {
        pool = command_named_pool(call);
        if (pool == NULL) {
            return COMMAND_FAILED;
        }
    }
    return command_begin(call, pool, 1);
}

/* --- the process ------------------------------------------------------------------------------ */

/* reload, upgrade, quit: the master's. */
static enum command_status command_ask(struct command_call *call)
{
    return control_ask(call->control, call->client, call->words[0], call->why, sizeof(call->why)) ==
                   0
               ? COMMAND_LATER
               : COMMAND_FAILED;
}

/* --- the table -------------------------------------------------------------------------------- */

static enum command_status command_help(struct command_call *call);

#define COMMAND_ROW(name, function, arguments, right, min, max, help)                              \
    {name, arguments, CONTROL_##right, min, max, command_##function, help},

static const struct command commands[] = {COMMANDS(COMMAND_ROW)};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static enum command_status command_help(struct command_call *call)
{
    json_t *list = json_array();
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        json_t *json = json_object();
        json_object_set_new(json, "name", json_string(commands[i].name));
        json_object_set_new(json, "arguments", json_string(commands[i].arguments));
        json_object_set_new(json, "changes", json_boolean(commands[i].rights == CONTROL_CHANGE));
        json_object_set_new(json, "help", json_string(commands[i].help));
        json_array_append_new(list, json);
    }
    return command_done(call, list);
}

/* Returns 0, or -1 if there are too many words. */
static int command_split(struct command_call *call, char *line)
{
    char *save = NULL;
    for (char *word = strtok_r(line, " \t\r", &save); word != NULL;
         word = strtok_r(NULL, " \t\r", &save)) {
        if (call->count == COMMAND_WORDS_MAX) {
            return -1;
        }
        call->words[call->count++] = word;
    }
    return 0;
}

enum command_status command_run(struct command_call *call, char *line, unsigned rights)
{
    char name[128];
    if (command_split(call, line) != 0 || call->count == 0) {
        return command_failed(call, "a line is a command with its arguments; see help");
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *command = &commands[i];
        if (strcmp(command->name, call->words[0]) != 0) {
            continue;
        }
        if ((command->rights & rights) == 0) {
            call->denied = 1;
            return command_failed(call, "%s: not allowed on this socket", command->name);
        }
        if (call->count - 1 < command->min || call->count - 1 > command->max) {
            return command_failed(call, "usage: %s %s", command->name, command->arguments);
        }
        return command->run(call);
    }
    return command_failed(
        call, "there is no command \"%s\"; see help",
        log_escape(name, sizeof(name), call->words[0], strnlen(call->words[0], 30)));
}
