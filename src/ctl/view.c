#include "deferd/view.h"

#include "deferd/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define VIEW_COLUMNS_MAX 10

/* Cells of a row that are made, not borrowed. */
struct view_row {
    char made[VIEW_COLUMNS_MAX][300];
    const char *cells[VIEW_COLUMNS_MAX];
    size_t count;
};

static const char *view_string(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text != NULL ? text : "";
}

static long long view_integer(const json_t *json, const char *key)
{
    return (long long)json_integer_value(json_object_get(json, key));
}

static double view_number(const json_t *json, const char *key)
{
    return json_number_value(json_object_get(json, key));
}

static void view_put(struct view_row *row, const char *text)
{
    row->cells[row->count++] = text;
}

__attribute__((format(printf, 2, 3))) static void view_format(struct view_row *row,
                                                              const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(row->made[row->count], sizeof(row->made[0]), format, args);
    va_end(args);
    row->cells[row->count] = row->made[row->count];
    row->count++;
}

static void view_duration(struct view_row *row, const json_t *ms)
{
    if (json_is_number(ms)) {
        terminal_duration(row->made[row->count], sizeof(row->made[0]), json_number_value(ms));
    } else {
        row->made[row->count][0] = '\0';
    }
    row->cells[row->count] = row->made[row->count];
    row->count++;
}

static void view_integer_or_dash(struct view_row *row, const json_t *json)
{
    if (json_is_integer(json)) {
        view_format(row, "%lld", (long long)json_integer_value(json));
    } else {
        view_put(row, "-");
    }
}

/* --- the process ------------------------------------------------------------------------------ */

static void view_line(const struct view *view, const char *name, const char *text)
{
    char shown[1024];
    if (view->width > 0 && view->width <= 12) {
        fprintf(view->out, "%.*s%s", (int)view->width, name, view->end);
        return;
    }
    terminal_text(shown, sizeof(shown), text, view->width > 0 ? view->width - 12 : 0);
    fprintf(view->out, "%-12s%s%s", name, shown, view->end);
}

static void view_outcomes(const struct view *view, const json_t *outcomes)
{
    char text[512] = "";
    const char *name;
    json_t *count;
    json_object_foreach((json_t *)outcomes, name, count)
    {
        size_t at = strlen(text);
        if (json_integer_value(count) > 0) {
            snprintf(text + at, sizeof(text) - at, "%s%s %lld", at > 0 ? ", " : "", name,
                     (long long)json_integer_value(count));
        }
    }
    view_line(view, "ended", text[0] != '\0' ? text : "none");
}

static void view_draining(const struct view *view, const json_t *workers)
{
    size_t i;
    const json_t *worker;
    json_array_foreach(workers, i, worker)
    {
        char text[128];
        snprintf(text, sizeof(text), "worker process %lld: %lld busy, %lld of them deferred",
                 view_integer(worker, "pid"), view_integer(worker, "busy"),
                 view_integer(worker, "deferred"));
        view_line(view, "draining", text);
    }
}

void view_status(const struct view *view, const json_t *status)
{
    char uptime[32];
    char text[256];
    terminal_duration(uptime, sizeof(uptime), view_number(status, "uptime") * 1000);
    snprintf(text, sizeof(text), "%s, worker process %lld, up %s", view_string(status, "version"),
             view_integer(status, "pid"), uptime);
    view_line(view, "deferd", text);
    snprintf(text, sizeof(text), "%lld of %lld busy, %lld of them deferred, %lld requests waiting",
             view_integer(status, "busy"), view_integer(status, "workers"),
             view_integer(status, "deferred"), view_integer(status, "waiting"));
    view_line(view, "workers", text);
    view_draining(view, json_object_get(status, "draining"));
    snprintf(text, sizeof(text), "%lld of at most %lld", view_integer(status, "clients"),
             view_integer(status, "max_clients"));
    view_line(view, "connections", text);
    snprintf(text, sizeof(text), "%lld", view_integer(status, "requests"));
    view_line(view, "requests", text);
    view_outcomes(view, json_object_get(status, "outcomes"));
}

static void view_upstreams(struct terminal_table *table, const json_t *pool)
{
    size_t i;
    const json_t *upstream;
    json_array_foreach(json_object_get(pool, "upstreams"), i, upstream)
    {
        struct view_row row = {.count = 0};
        view_format(&row, "  upstream");
        view_put(&row, json_is_true(json_object_get(upstream, "up")) ? "up" : "down");
        view_format(&row, "%lld/%lld", view_integer(upstream, "busy"),
                    view_integer(upstream, "workers"));
        view_put(&row, "");
        view_put(&row, "");
        view_put(&row, view_string(upstream, "address"));
        terminal_table_add(table, row.cells);
    }
}

static void view_classes(struct terminal_table *table, const json_t *pool)
{
    size_t i;
    const json_t *class;
    json_array_foreach(json_object_get(pool, "classes"), i, class)
    {
        struct view_row row = {.count = 0};
        view_format(&row, "  class");
        view_put(&row, "");
        view_format(&row, "%lld/%lld", view_integer(class, "busy"), view_integer(class, "workers"));
        view_format(&row, "%lld", view_integer(class, "waiting"));
        view_put(&row, "");
        view_put(&row, view_string(class, "name"));
        terminal_table_add(table, row.cells);
    }
}

void view_pools(const struct view *view, const json_t *pools)
{
    static const char *const heads[] = {"POOL", "STATE", "BUSY>", "WAITING>", "DEFERRED>", "WHERE"};
    struct terminal_table *table = terminal_table_new(heads, 6);
    size_t i;
    const json_t *pool;
    json_array_foreach(pools, i, pool)
    {
        struct view_row row = {.count = 0};
        view_put(&row, view_string(pool, "name"));
        view_put(&row, json_is_true(json_object_get(pool, "paused")) ? "paused" : "open");
        view_format(&row, "%lld/%lld", view_integer(pool, "busy"), view_integer(pool, "workers"));
        view_format(&row, "%lld/%lld", view_integer(pool, "waiting"),
                    view_integer(pool, "queue_max"));
        view_format(&row, "%lld/%lld", view_integer(pool, "deferred"),
                    view_integer(pool, "defer_max_workers"));
        view_put(&row, view_string(pool, "listen"));
        if (table != NULL) {
            terminal_table_add(table, row.cells);
            view_upstreams(table, pool);
            view_classes(table, pool);
        }
    }
    if (table != NULL) {
        terminal_table_print(table, view->out, view->width, view->rows, view->end);
    }
    terminal_table_free(table);
}

/* --- deferred phases -------------------------------------------------------------------------- */

static int view_is(const json_t *task, const char *state)
{
    return strcmp(view_string(task, "state"), state) == 0;
}

/* The task that tells most: the one that runs, or that failed, or the last. Returns NULL without
 * any; *number from 1. */
static const json_t *view_telling_task(const json_t *tasks, size_t *number)
{
    size_t i;
    const json_t *task;
    const json_t *best = NULL;
    int best_rank = -1;
    json_array_foreach(tasks, i, task)
    {
        int rank = view_is(task, "running")  ? 3
                   : view_is(task, "failed") ? 2
                   : view_is(task, "done")   ? 1
                                             : 0;
        if (rank >= best_rank && !(rank == 0 && best != NULL)) {
            best = task;
            best_rank = rank;
            *number = i + 1;
        }
    }
    return best;
}

static void view_progress(struct view_row *row, const json_t *task)
{
    const json_t *ratio = json_object_get(task, "ratio");
    const char *text = view_string(task, view_is(task, "failed") ? "error" : "text");
    if (json_is_number(ratio) && view_is(task, "running")) {
        view_format(row, "%.0f%% %s", json_number_value(ratio) * 100, text);
    } else {
        view_put(row, text);
    }
}

void view_list(const struct view *view, const json_t *phases)
{
    static const char *const heads[] = {"ID>",  "POOL", "STATE",    "AGE>",   "CLASS",
                                        "PID>", "TASK", "PROGRESS", "METHOD", "URI"};
    struct terminal_table *table = terminal_table_new(heads, 10);
    size_t i;
    const json_t *phase;
    json_array_foreach(phases, i, phase)
    {
        struct view_row row = {.count = 0};
        const json_t *tasks = json_object_get(phase, "tasks");
        size_t number = 0;
        const json_t *task = view_telling_task(tasks, &number);
        view_format(&row, "%lld", view_integer(phase, "id"));
        view_put(&row, view_string(phase, "pool"));
        view_put(&row, view_string(phase, "state"));
        view_duration(&row, json_object_get(phase, "age_ms"));
        view_put(&row, view_string(phase, "class"));
        view_integer_or_dash(&row, json_object_get(phase, "pid"));
        if (task != NULL) {
            view_format(&row, "%zu/%zu %s", number, json_array_size(tasks),
                        view_string(task, "name"));
            view_progress(&row, task);
        } else {
            view_put(&row, "-");
            view_put(&row, "");
        }
        view_put(&row, view_string(phase, "method"));
        view_put(&row, view_string(phase, "uri"));
        if (table != NULL) {
            terminal_table_add(table, row.cells);
        }
    }
    if (table != NULL) {
        terminal_table_print(table, view->out, view->width, view->rows, view->end);
    }
    terminal_table_free(table);
}

static void view_tasks(const struct view *view, const json_t *tasks)
{
    static const char *const heads[] = {"TASK>", "STATE", "TIME>", "PROGRESS>", "NAME", "TEXT"};
    struct terminal_table *table = terminal_table_new(heads, 6);
    size_t i;
    const json_t *task;
    json_array_foreach(tasks, i, task)
    {
        struct view_row row = {.count = 0};
        const json_t *ratio = json_object_get(task, "ratio");
        const char *error = view_string(task, "error");
        view_format(&row, "%zu", i + 1);
        view_put(&row, view_string(task, "state"));
        view_duration(&row, json_object_get(task, "ms"));
        if (json_is_number(ratio)) {
            view_format(&row, "%.0f%%", json_number_value(ratio) * 100);
        } else {
            view_put(&row, "");
        }
        view_put(&row, view_string(task, "name"));
        view_put(&row, error[0] != '\0' ? error : view_string(task, "text"));
        if (table != NULL) {
            terminal_table_add(table, row.cells);
        }
    }
    if (table != NULL) {
        terminal_table_print(table, view->out, view->width, 0, view->end);
    }
    terminal_table_free(table);
}

void view_show(const struct view *view, const json_t *phase)
{
    char text[512];
    char age[32];
    char started[64];
    time_t second = (time_t)view_number(phase, "started");
    struct tm tm;
    localtime_r(&second, &tm);
    strftime(started, sizeof(started), "%Y-%m-%d %H:%M:%S", &tm);
    terminal_duration(age, sizeof(age), view_number(phase, "age_ms"));
    snprintf(text, sizeof(text), "%lld, %s", view_integer(phase, "id"),
             view_string(phase, "state"));
    view_line(view, "phase", text);
    snprintf(text, sizeof(text), "%s %.400s", view_string(phase, "method"),
             view_string(phase, "uri"));
    view_line(view, "request", text);
    snprintf(text, sizeof(text), "%s, class %s, answered %lld", view_string(phase, "pool"),
             view_string(phase, "class"), view_integer(phase, "status"));
    view_line(view, "pool", text);
    if (json_is_integer(json_object_get(phase, "pid"))) {
        snprintf(text, sizeof(text), "process %lld at %s", view_integer(phase, "pid"),
                 view_string(phase, "upstream"));
    } else {
        snprintf(text, sizeof(text), "at %s", view_string(phase, "upstream"));
    }
    view_line(view, "worker", text);
    snprintf(text, sizeof(text), "worker process %lld", view_integer(phase, "process"));
    view_line(view, "deferd", text);
    snprintf(text, sizeof(text), "%s, %s %s", started, age,
             json_is_null(json_object_get(phase, "outcome")) ? "ago" : "long");
    view_line(view, "started", text);
    snprintf(text, sizeof(text), "%lld: %lld done, %lld failed, %lld skipped",
             view_integer(phase, "total"), view_integer(phase, "done"),
             view_integer(phase, "failed"), view_integer(phase, "skipped"));
    view_line(view, "tasks", text);
    view_tasks(view, json_object_get(phase, "tasks"));
}

void view_help(const struct view *view, const json_t *commands)
{
    static const char *const heads[] = {"COMMAND", "ARGUMENTS", "WHAT"};
    struct terminal_table *table = terminal_table_new(heads, 3);
    size_t i;
    const json_t *command;
    json_array_foreach(commands, i, command)
    {
        const char *cells[] = {view_string(command, "name"), view_string(command, "arguments"),
                               view_string(command, "help")};
        if (table != NULL) {
            terminal_table_add(table, cells);
        }
    }
    if (table != NULL) {
        terminal_table_print(table, view->out, view->width, 0, view->end);
    }
    terminal_table_free(table);
}
