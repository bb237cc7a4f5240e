#include "deferd/report.h"

#include <limits.h>
#include <string.h>

/* What an event must and may carry; the rest of its keys is ignored. */
static const struct report_kind {
    const char *name;
    enum report_event event;
    int has_tasks;
    int has_task;
    const char *text_key;
} report_kinds[] = {
    {"begin", REPORT_BEGIN, 1, 0, NULL},
    {"start", REPORT_START, 0, 1, NULL},
    {"progress", REPORT_PROGRESS, 0, 1, "text"},
    {"done", REPORT_DONE, 0, 1, NULL},
    {"fail", REPORT_FAIL, 0, 1, "error"},
    {"skip", REPORT_SKIP, 0, 1, "why"},
    {"add", REPORT_ADD, 1, 0, NULL},
    {"end", REPORT_END, 0, 0, NULL},
};

static const struct report_kind *report_kind(const json_t *root)
{
    const char *event = json_string_value(json_object_get(root, "event"));
    if (event == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(report_kinds) / sizeof(report_kinds[0]); i++) {
        if (strcmp(event, report_kinds[i].name) == 0) {
            return &report_kinds[i];
        }
    }
    return NULL;
}

static int report_is_names(const json_t *tasks)
{
    size_t i;
    json_t *name;
    if (!json_is_array(tasks)) {
        return 0;
    }
    json_array_foreach(tasks, i, name)
    {
        if (!json_is_string(name)) {
            return 0;
        }
    }
    return 1;
}

static int report_fill(const json_t *root, const struct report_kind *kind, struct report *out)
{
    const json_t *task = json_object_get(root, "task");
    out->event = kind->event;
    out->tasks = json_object_get(root, "tasks");
    if (kind->has_tasks && !report_is_names(out->tasks)) {
        return -1;
    }
    if (kind->has_task && (!json_is_integer(task) || json_integer_value(task) < 0)) {
        return -1;
    }
    out->task = json_integer_value(task);
    out->pid = json_integer_value(json_object_get(root, "pid"));
    out->pid = out->pid < 1 || out->pid > INT_MAX ? 0 : out->pid;
    out->ms = json_number_value(json_object_get(root, "ms"));
    out->ratio = json_number_value(json_object_get(root, "ratio"));
    out->ratio = out->ratio < 0 ? 0 : out->ratio > 1 ? 1 : out->ratio;
    out->ms = out->ms < 0 ? 0 : out->ms;
    const char *text =
        kind->text_key ? json_string_value(json_object_get(root, kind->text_key)) : NULL;
    out->text = text != NULL ? text : "";
    return 0;
}

int report_parse(const char *line, size_t len, struct report *out)
{
    *out = (struct report){0};
    if (len < 2 || line[0] != '{') {
        return -1;
    }
    json_t *root = json_loadb(line, len, 0, NULL);
    const struct report_kind *kind = report_kind(root);
    if (kind == NULL || report_fill(root, kind, out) != 0) {
        json_decref(root);
        return -1;
    }
    out->root = root;
    return 0;
}

void report_free(struct report *report)
{
    json_decref(report->root);
    report->root = NULL;
}
