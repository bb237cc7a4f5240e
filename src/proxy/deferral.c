#include "deferd/deferral.h"

#include "deferd/report.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFERRAL_STRAY_SHOWN 256

static void deferral_add(struct deferral *deferral, const char *name)
{
    deferral->total++;
    if (deferral->named == DEFERRAL_TASKS_MAX || deferral->named + 1 < deferral->total) {
        return;
    }
    if ((deferral->named & (deferral->named - 1)) == 0) { /* 0 or a power of two: full */
        size_t cap = deferral->named > 0 ? deferral->named * 2 : 1;
        struct task **tasks = realloc(deferral->tasks, cap * sizeof(*tasks));
        if (tasks == NULL) {
            return;
        }
        deferral->tasks = tasks;
    }
    size_t len = strnlen(name, DEFERRAL_NAME_MAX);
    struct task *task = malloc(sizeof(*task) + len + 1);
    if (task == NULL) {
        return;
    }
    *task = (struct task){.ratio = -1};
    memcpy(task->name, name, len);
    task->name[len] = '\0';
    deferral->tasks[deferral->named++] = task;
}

static void deferral_add_all(struct deferral *deferral, const json_t *names)
{
    size_t i;
    json_t *name;
    json_array_foreach(names, i, name)
    {
        deferral_add(deferral, json_string_value(name));
    }
}

/* Keeps a text in place of the one before, as far as there is room for it. */
static void deferral_keep(struct deferral *deferral, char **kept, const char *text, size_t max)
{
    size_t len = strnlen(text, max);
    if (*kept != NULL) {
        deferral->detail -= strlen(*kept) + 1;
        free(*kept);
        *kept = NULL;
    }
    if (len > 0 && deferral->detail + len + 1 <= DEFERRAL_DETAIL_MAX) {
        *kept = strndup(text, len);
        deferral->detail += *kept != NULL ? strlen(*kept) + 1 : 0;
    }
}

/* The task a report speaks of, or NULL if it has no name here. */
static struct task *deferral_task(const struct deferral *deferral, long long index)
{
    return (unsigned long long)index < deferral->named ? deferral->tasks[index] : NULL;
}

/* Counts a task's end, once. A task that was never announced does not count. */
static void deferral_finish(struct deferral *deferral, const struct report *report,
                            enum task_state state, size_t *count)
{
    struct task *task = deferral_task(deferral, report->task);
    if ((unsigned long long)report->task >= deferral->total) {
        return;
    }
    if (task == NULL) {
        /* Which of the nameless ones it is cannot be told: there are not more ends than of them. */
        if (deferral->nameless >= deferral->total - deferral->named) {
            return;
        }
        deferral->nameless++;
    } else if (task->state > TASK_RUNNING) {
        return;
    } else {
        task->state = state;
        task->ms = report->ms;
        if (state == TASK_FAILED) {
            deferral_keep(deferral, &task->error, report->text, DEFERRAL_ERROR_MAX);
        } else if (state == TASK_SKIPPED) {
            deferral_keep(deferral, &task->text, report->text, DEFERRAL_TEXT_MAX);
        }
    }
    (*count)++;
}

static void deferral_apply(struct deferral *deferral, const struct report *report,
                           const struct deferral_events *events)
{
    struct task *task = deferral_task(deferral, report->task);
    deferral->reported = 1;
    deferral->ended = 0;
    switch (report->event) {
    case REPORT_BEGIN:
        deferral->pid = report->pid;
        deferral_add_all(deferral, report->tasks);
        break;
    case REPORT_ADD:
        deferral_add_all(deferral, report->tasks);
        break;
    case REPORT_START:
        if (task != NULL && task->state == TASK_WAITING) {
            task->state = TASK_RUNNING;
            task->started = events->now;
        }
        break;
    case REPORT_PROGRESS:
        if (task != NULL && task->state == TASK_RUNNING) {
            task->ratio = (float)report->ratio;
            deferral_keep(deferral, &task->text, report->text, DEFERRAL_TEXT_MAX);
        }
        break;
    case REPORT_DONE:
        deferral_finish(deferral, report, TASK_DONE, &deferral->done);
        break;
    case REPORT_FAIL:
        deferral->any_fail = 1;
        deferral_finish(deferral, report, TASK_FAILED, &deferral->failed);
        events->failed(events->arg, task != NULL ? task->name : "unnamed", report->text);
        break;
    case REPORT_SKIP:
        deferral->any_stopped |= strcmp(report->text, "stopped") == 0;
        deferral_finish(deferral, report, TASK_SKIPPED, &deferral->skipped);
        break;
    case REPORT_END:
        deferral->ended = 1;
        break;
    }
}

static void deferral_line(struct deferral *deferral, const struct lines_event *line,
                          const struct deferral_events *events)
{
    struct report report;
    if (line->kind == LINES_LINE && line->len == 0) {
        return; /* an empty line separates; it says nothing */
    }
    if (line->kind == LINES_LINE && report_parse(line->data, line->len, &report) == 0) {
        deferral_apply(deferral, &report, events);
        report_free(&report);
        return;
    }
    deferral->stray++;
    size_t shown = line->len < DEFERRAL_STRAY_SHOWN ? line->len : DEFERRAL_STRAY_SHOWN;
    events->stray(events->arg, line->data, shown);
}

void deferral_feed(struct deferral *deferral, const uint8_t *data, size_t len,
                   const struct deferral_events *events)
{
    struct lines_event line;
    while (len > 0) {
        size_t used = lines_next(&deferral->lines, data, len, REPORT_LINE_MAX, &line);
        data += used;
        len -= used;
        if (line.kind != LINES_MORE) {
            deferral_line(deferral, &line, events);
        }
    }
    /* Give a completed line's memory back now: thousands of phases may wait for their next one. */
    if (deferral->lines.len == 0) {
        lines_free(&deferral->lines);
    }
}

void deferral_end(struct deferral *deferral, const struct deferral_events *events)
{
    struct lines_event line;
    lines_last(&deferral->lines, &line);
    if (line.kind != LINES_MORE) {
        deferral_line(deferral, &line, events);
    }
}

enum outcome deferral_outcome(const struct deferral *deferral, int end_request)
{
    if (deferral->ended) {
        return deferral->any_fail ? OUTCOME_FAILED : OUTCOME_COMPLETED;
    }
    return end_request && !deferral->reported ? OUTCOME_UNREPORTED : OUTCOME_LOST;
}

/* The names of the tasks in a state up to `last`. */
static size_t deferral_join(const struct deferral *deferral, enum task_state last, char *out,
                            size_t size)
{
    static const char more[] = "...";
    size_t at = 0;
    assert(size > sizeof(more));
    out[0] = '\0';
    for (size_t i = 0; i < deferral->named; i++) {
        const struct task *task = deferral->tasks[i];
        size_t room = size - at - sizeof(more);
        if (task->state > last) {
            continue;
        }
        int n = snprintf(out + at, room, "%s%s", at > 0 ? ", " : "", task->name);
        if ((size_t)n >= room) {
            memcpy(out + at, more, sizeof(more));
            return at + sizeof(more) - 1;
        }
        at += (size_t)n;
    }
    return at;
}

size_t deferral_names(const struct deferral *deferral, char *out, size_t size)
{
    return deferral_join(deferral, TASK_SKIPPED, out, size);
}

size_t deferral_unfinished(const struct deferral *deferral, char *out, size_t size)
{
    deferral_join(deferral, TASK_RUNNING, out, size);
    return deferral->total - deferral->done - deferral->failed - deferral->skipped;
}

void deferral_free(struct deferral *deferral)
{
    for (size_t i = 0; i < deferral->named; i++) {
        free(deferral->tasks[i]->text);
        free(deferral->tasks[i]->error);
        free(deferral->tasks[i]);
    }
    free(deferral->tasks);
    lines_free(&deferral->lines);
    *deferral = (struct deferral){0};
}
