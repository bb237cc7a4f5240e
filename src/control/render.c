#include "deferd/render.h"

#include "deferd/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

/* The longest key with its blanks. */
#define RENDER_KEY_MAX 128

struct render {
    struct buf *out;
    int failed;
};

static void render_bytes(struct render *render, const char *data, size_t len)
{
    if (buf_append(render->out, data, len) != 0) {
        render->failed = 1;
    }
}

static void render_string(struct render *render, const char *text)
{
    render_bytes(render, text, strlen(text));
}

/* A scalar as it is written in all formats but JSON; a string is the caller's. */
static void render_scalar(struct render *render, const json_t *value)
{
    char number[64];
    switch (json_typeof(value)) {
    case JSON_INTEGER:
        snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        snprintf(number, sizeof(number), "%.3f", json_real_value(value));
        break;
    default:
        snprintf(number, sizeof(number), "%s", json_is_true(value) ? "1" : "0");
        break;
    }
    render_string(render, number);
}

static int render_is_scalar(const json_t *value)
{
    return !json_is_object(value) && !json_is_array(value);
}

/* --- text ------------------------------------------------------------------------------------- */

/* Control bytes would let a URI begin a line of its own. */
static void render_text_string(struct render *render, const json_t *value)
{
    static const char hex[] = "0123456789ABCDEF";
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != 0x7f) {
            render_bytes(render, text + i, 1);
        } else {
            char escaped[] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
            render_bytes(render, escaped, sizeof(escaped));
        }
    }
}

static void render_text_value(struct render *render, const json_t *value)
{
    if (json_is_string(value)) {
        render_text_string(render, value);
    } else {
        render_scalar(render, value);
    }
}

/* php-fpm writes the values one below the other. */
static void render_text_key(struct render *render, const char *prefix, const char *key)
{
    char line[RENDER_KEY_MAX];
    snprintf(line, sizeof(line), "%s%s%s:", prefix, prefix[0] != '\0' ? " " : "", key);
    snprintf(line + strlen(line), sizeof(line) - strlen(line), "%*s",
             (int)(strlen(line) < 22 ? 22 - strlen(line) : 1), "");
    render_string(render, line);
}

/* The times that php-fpm writes as dates. */
static void render_text_date(struct render *render, const json_t *value)
{
    char date[64];
    struct tm tm;
    time_t when = (time_t)json_number_value(value);
    localtime_r(&when, &tm);
    strftime(date, sizeof(date), "%d/%b/%Y:%H:%M:%S %z", &tm);
    render_string(render, date);
}

static int render_is_date(const char *key)
{
    return strcmp(key, "start time") == 0 || strcmp(key, "time") == 0;
}

/* An object's scalars, a line each. */
static void render_text_object(struct render *render, const char *prefix, const json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        if (!render_is_scalar(value)) {
            continue;
        }
        render_text_key(render, prefix, key);
        if (render_is_date(key)) {
            render_text_date(render, value);
        } else {
            render_text_value(render, value);
        }
        render_string(render, "\n");
    }
}

/* Tasks on lines of their own below their process. */
static void render_text_tasks(struct render *render, const json_t *row)
{
    char state[RENDER_KEY_MAX];
    size_t i;
    json_t *task;
    json_array_foreach(json_object_get(row, "tasks"), i, task)
    {
        snprintf(state, sizeof(state), "task %s",
                 json_string_value(json_object_get(task, "state")));
        render_text_key(render, "", state);
        render_text_value(render, json_object_get(task, "name"));
        render_string(render, "\n");
    }
}

/* Objects that have a name are short: their lines begin with it. Others are set apart. */
static void render_text_array(struct render *render, const char *key, const json_t *array)
{
    char prefix[RENDER_KEY_MAX];
    size_t i;
    json_t *row;
    json_array_foreach(array, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        if (name != NULL) {
            snprintf(prefix, sizeof(prefix), "%s %.64s", key, name);
            render_text_object(render, prefix, row);
            continue;
        }
        render_string(render, "\n************************\n");
        render_text_object(render, strcmp(key, "processes") == 0 ? "" : "failure", row);
        render_text_tasks(render, row);
    }
}

int render_text(struct buf *out, const json_t *snapshot)
{
    struct render render = {.out = out};
    const char *key;
    json_t *value;
    render_text_object(&render, "", snapshot);
    json_object_foreach((json_t *)snapshot, key, value)
    {
        if (json_is_object(value) && strcmp(key, "history") != 0) {
            render_text_object(&render, key, value);
        } else if (json_is_array(value)) {
            render_text_array(&render, key, value);
        }
    }
    return render.failed ? UV_ENOMEM : 0;
}

/* --- XML -------------------------------------------------------------------------------------- */

static void render_xml_string(struct render *render, const json_t *value)
{
    static const char hex[] = "0123456789ABCDEF";
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        char escaped[] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
        if (c == '&') {
            render_string(render, "&amp;");
        } else if (c == '<') {
            render_string(render, "&lt;");
        } else if (c == '>') {
            render_string(render, "&gt;");
        } else if (c == '"') {
            render_string(render, "&quot;");
        } else if (c < 0x20 || c == 0x7f ||
                   (c == 0xef && (i + 2 < len) && (unsigned char)text[i + 1] == 0xbf &&
                    (unsigned char)text[i + 2] >= 0xbe)) {
            render_bytes(render, escaped, sizeof(escaped)); /* XML 1.0 has no such characters */
            if (c == 0xef) {
                render_string(render,
                              (unsigned char)text[i + 2] == 0xbe ? "\\xBF\\xBE" : "\\xBF\\xBF");
                i += 2;
            }
        } else {
            render_bytes(render, text + i, 1);
        }
    }
}

/* Blanks and underscores in keys become hyphens, as php-fpm has them. */
static void render_xml_tag(struct render *render, const char *before, const char *key)
{
    char tag[RENDER_KEY_MAX];
    snprintf(tag, sizeof(tag), "%s%s>", before, key);
    for (char *p = tag; *p != '\0'; p++) {
        if (*p == ' ' || *p == '_') {
            *p = '-';
        }
    }
    render_string(render, tag);
}

static void render_xml_element(struct render *render, const char *key, const json_t *value)
{
    render_xml_tag(render, "<", key);
    if (json_is_string(value)) {
        render_xml_string(render, value);
    } else {
        render_scalar(render, value);
    }
    render_xml_tag(render, "</", key);
    render_string(render, "\n");
}

/* An object's scalars, an element each. */
static void render_xml_object(struct render *render, const json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        if (render_is_scalar(value)) {
            render_xml_element(render, key, value);
        }
    }
}

static void render_xml_tasks(struct render *render, const json_t *tasks)
{
    size_t i;
    json_t *task;
    if (tasks == NULL) {
        return;
    }
    render_string(render, "<tasks>\n");
    json_array_foreach(tasks, i, task)
    {
        render_string(render, "<task>\n");
        render_xml_object(render, task);
        render_string(render, "</task>\n");
    }
    render_string(render, "</tasks>\n");
}

static const char *render_singular(const char *key)
{
    static const char *const words[][2] = {{"processes", "process"},
                                           {"classes", "class"},
                                           {"upstreams", "upstream"},
                                           {"failures", "failure"}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(words[i][0], key) == 0) {
            return words[i][1];
        }
    }
    return "item";
}

static void render_xml_array(struct render *render, const char *key, const json_t *array)
{
    size_t i;
    json_t *row;
    render_xml_tag(render, "<", key);
    render_string(render, "\n");
    json_array_foreach(array, i, row)
    {
        render_xml_tag(render, "<", render_singular(key));
        render_string(render, "\n");
        render_xml_object(render, row);
        render_xml_tasks(render, json_object_get(row, "tasks"));
        render_xml_tag(render, "</", render_singular(key));
        render_string(render, "\n");
    }
    render_xml_tag(render, "</", key);
    render_string(render, "\n");
}

int render_xml(struct buf *out, const json_t *snapshot)
{
    struct render render = {.out = out};
    const char *key;
    json_t *value;
    render_string(&render, "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<status>\n");
    render_xml_object(&render, snapshot);
    json_object_foreach((json_t *)snapshot, key, value)
    {
        if (json_is_object(value) && strcmp(key, "history") != 0) {
            render_xml_tag(&render, "<", key);
            render_string(&render, "\n");
            render_xml_object(&render, value);
            render_xml_tag(&render, "</", key);
            render_string(&render, "\n");
        } else if (json_is_array(value)) {
            render_xml_array(&render, key, value);
        }
    }
    render_string(&render, "</status>\n");
    return render.failed ? UV_ENOMEM : 0;
}
