#include "deferd/item.h"

#include "deferd/log.h"
#include "deferd/params.h"
#include "deferd/pool.h"
#include "deferd/request.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* One value of a peer, before it is escaped. */
#define ITEM_VALUE_MAX 1024

/* --- writing ---------------------------------------------------------------------------------- */

static void line_add(struct item_line *line, const char *text, size_t len)
{
    size_t room = line->size - line->at;
    len = len < room ? len : room;
    memcpy(line->out + line->at, text, len);
    line->at += len;
}

static void line_text(struct item_line *line, const char *text)
{
    line_add(line, text[0] != '\0' ? text : "-", text[0] != '\0' ? strlen(text) : 1);
}

static void line_number(struct item_line *line, unsigned long long number)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%llu", number);
    line_add(line, text, (size_t)n);
}

static void line_ms(struct item_line *line, uint64_t from, uint64_t to)
{
    char text[32];
    double ms = from != 0 && to > from ? (double)(to - from) / 1e6 : 0;
    int n = snprintf(text, sizeof(text), "%.3f", ms);
    line_add(line, text, (size_t)n);
}

/* Escapes what a peer sent into out. */
static void item_escape(const struct item *item, char *out, size_t size, const void *data,
                        size_t len)
{
    len = len < ITEM_VALUE_MAX ? len : ITEM_VALUE_MAX;
    if (item->quoted) {
        log_escape(out, size, data, len);
    } else {
        log_escape_word(out, size, data, len);
    }
}

/* An escaped text, as far as there is room; never a part of an escape. */
static void line_peer_text(struct item_line *line, const char *text)
{
    size_t len = strlen(text);
    if (len > line->limit) {
        len = line->limit;
        for (size_t i = 0; i < 3 && len > i; i++) {
            if (text[len - 1 - i] == '\\') {
                len -= i + 1;
                break;
            }
        }
    }
    line->room -= len;
    line_add(line, text, len);
}

static void line_peer(struct item_line *line, const struct item *item, const void *data, size_t len,
                      const char *absent)
{
    char text[4 * ITEM_VALUE_MAX + 1];
    item_escape(item, text, sizeof(text), data, len);
    line_peer_text(line, len > 0 ? text : absent);
}

/* --- the request ------------------------------------------------------------------------------ */

/* Value number `place`, counted from 1, of a request's note; NULL if it has not so many. */
static const char *note_value(const struct request *request, unsigned place)
{
    if (request->note.len == 0) {
        return NULL;
    }
    const char *at = (const char *)request->note.data;
    const char *end = at + request->note.len;
    while (place > 1 && at < end) {
        at += strlen(at) + 1;
        place--;
    }
    return at < end && place > 0 ? at : NULL;
}

/* The last param of this name, as it counts in php-fpm. */
static struct slice request_param(const struct request *request, const char *name)
{
    struct slice found = {0};
    struct head_walk walk = {0};
    struct param param;
    while (head_next_param(&request->head, &walk, &param)) {
        if (params_is(&param, name)) {
            found = (struct slice){param.value, param.value_len};
        }
    }
    return found;
}

static const char *item_param_name(const struct item *item)
{
    return item->kind->param != NULL ? item->kind->param : item->name;
}

static void put_param(struct item_line *line, struct item *item)
{
    const char *noted = note_value(line->request, item->note);
    if (noted != NULL) {
        line_peer_text(line, noted);
        return;
    }
    struct slice value = request_param(line->request, item_param_name(item));
    line_peer(line, item, value.data, value.len, "-");
}

static void put_header(struct item_line *line, struct item *item)
{
    const char *noted = note_value(line->request, item->note);
    line_peer_text(line, noted != NULL ? noted : "-");
}

/* Where the query begins in the URI, or its length. */
static size_t uri_path(const struct request *request)
{
    const struct slice *uri = &request->head.uri;
    const uint8_t *mark = uri->len > 0 ? memchr(uri->data, '?', uri->len) : NULL;
    return mark != NULL ? (size_t)(mark - uri->data) : uri->len;
}

static void put_path(struct item_line *line, struct item *item)
{
    line_peer(line, item, line->request->head.uri.data, uri_path(line->request), "-");
}

static void put_query_mark(struct item_line *line, struct item *item)
{
    (void)item;
    if (uri_path(line->request) < line->request->head.uri.len) {
        line_add(line, "?", 1);
    }
}

static void put_query(struct item_line *line, struct item *item)
{
    const struct slice *uri = &line->request->head.uri;
    size_t path = uri_path(line->request);
    if (path < uri->len) {
        line_peer(line, item, uri->data + path + 1, uri->len - path - 1, "");
    }
}

static void put_method(struct item_line *line, struct item *item)
{
    const struct slice *method = &line->request->head.method;
    line_peer(line, item, method->data, method->len, "-");
}

static void put_length(struct item_line *line, struct item *item)
{
    long long length = line->request->head.content_length;
    (void)item;
    line_number(line, length > 0 ? (unsigned long long)length : 0);
}

static void put_status(struct item_line *line, struct item *item)
{
    (void)item;
    if (line->request->status != 0) {
        line_number(line, (unsigned)line->request->status);
    } else {
        line_text(line, "-");
    }
}

static void put_pool(struct item_line *line, struct item *item)
{
    (void)item;
    line_text(line, line->request->pool->options->name);
}

static void put_pid(struct item_line *line, struct item *item)
{
    (void)item;
    if (line->request->deferral.pid > 0) {
        line_number(line, (unsigned long long)line->request->deferral.pid);
    } else {
        line_text(line, "-");
    }
}

/* --- times ------------------------------------------------------------------------------------ */

static uint64_t line_answered(const struct item_line *line)
{
    return line->request->answered != 0 ? line->request->answered : line->now;
}

static void put_duration(struct item_line *line, struct item *item)
{
    char text[32];
    const struct request *request = line->request;
    uint64_t answered = line_answered(line);
    double ns = request->submitted != 0 && answered > request->submitted
                    ? (double)(answered - request->submitted)
                    : 0;
    snprintf(text, sizeof(text), item->unit < 1e6 ? "%.0f" : "%.3f", ns / item->unit);
    line_text(line, text);
}

static void put_moment(struct item_line *line, struct item *item, time_t second)
{
    if (second != item->second) {
        struct tm tm;
        localtime_r(&second, &tm);
        const char *text = item->name[0] != '\0' ? item->name : "%d/%b/%Y:%H:%M:%S %z";
        if (strftime(item->text, sizeof(item->text), text, &tm) == 0) {
            item->text[0] = '\0';
        }
        item->second = second;
    }
    line_text(line, item->text);
}

static void put_begin(struct item_line *line, struct item *item)
{
    uint64_t submitted = line->request->submitted;
    uint64_t age = submitted != 0 ? line->now - submitted : 0;
    uint64_t wall = (uint64_t)line->wall.tv_sec * 1000000000U + (uint64_t)line->wall.tv_nsec;
    put_moment(line, item, (time_t)((wall - age) / 1000000000U));
}

static void put_end(struct item_line *line, struct item *item)
{
    put_moment(line, item, line->wall.tv_sec);
}

/* --- deferd's own ----------------------------------------------------------------------------- */

static void put_id(struct item_line *line, struct item *item)
{
    (void)item;
    line_number(line, line->request->id);
}

static void put_class(struct item_line *line, struct item *item)
{
    const struct queue_class *class = line->request->class;
    (void)item;
    line_text(line, class != NULL ? class->options->name : "-");
}

static void put_upstream(struct item_line *line, struct item *item)
{
    const struct upstream *upstream = line->request->upstream;
    (void)item;
    line_text(line, upstream != NULL ? upstream->options->address.text : "-");
}

static void put_outcome(struct item_line *line, struct item *item)
{
    (void)item;
    line_text(line, outcome_name(line->outcome));
}

static void put_queue(struct item_line *line, struct item *item)
{
    const struct request *request = line->request;
    (void)item;
    line_ms(line, request->submitted,
            request->dispatched != 0 ? request->dispatched : line_answered(line));
}

static void put_response(struct item_line *line, struct item *item)
{
    (void)item;
    line_ms(line, line->request->submitted, line_answered(line));
}

static void put_deferred(struct item_line *line, struct item *item)
{
    (void)item;
    if (line->request->deferred != 0) {
        line_ms(line, line->request->deferred, line->now);
    } else {
        line_text(line, "-");
    }
}

static void put_done(struct item_line *line, struct item *item)
{
    (void)item;
    line_number(line, line->request->deferral.done);
}

static void put_failed(struct item_line *line, struct item *item)
{
    (void)item;
    line_number(line, line->request->deferral.failed);
}

static void put_skipped(struct item_line *line, struct item *item)
{
    (void)item;
    line_number(line, line->request->deferral.skipped);
}

static void put_tasks(struct item_line *line, struct item *item)
{
    char names[ITEM_VALUE_MAX];
    size_t len = deferral_names(&line->request->deferral, names, sizeof(names));
    line_peer(line, item, names, len, "-");
}

static void put_tries(struct item_line *line, struct item *item)
{
    (void)item;
    line_number(line, line->request->tries);
}

static void put_literal(struct item_line *line, struct item *item)
{
    line_add(line, item->name, strlen(item->name));
}

/* --- the tables ------------------------------------------------------------------------------- */

static const struct item_kind item_literal = {"", ITEM_OWN, put_literal, NULL};

static const struct item_kind item_letters[] = {
    {"d", ITEM_OWN, put_duration, NULL},
    {"e", ITEM_PARAM, put_param, NULL},
    {"f", ITEM_PARAM, put_param, "SCRIPT_FILENAME"},
    {"l", ITEM_OWN, put_length, NULL},
    {"m", ITEM_PEER, put_method, NULL},
    {"n", ITEM_OWN, put_pool, NULL},
    {"o", ITEM_HEADER, put_header, NULL},
    {"p", ITEM_OWN, put_pid, NULL},
    {"q", ITEM_PEER, put_query, NULL},
    {"Q", ITEM_OWN, put_query_mark, NULL},
    {"r", ITEM_PEER, put_path, NULL},
    {"R", ITEM_PARAM, put_param, "REMOTE_ADDR"},
    {"s", ITEM_OWN, put_status, NULL},
    {"t", ITEM_OWN, put_begin, NULL},
    {"T", ITEM_OWN, put_end, NULL},
    {"u", ITEM_PARAM, put_param, "REMOTE_USER"},
};

static const struct item_kind item_names[] = {
    {"id", ITEM_OWN, put_id, NULL},
    {"class", ITEM_OWN, put_class, NULL},
    {"upstream", ITEM_OWN, put_upstream, NULL},
    {"outcome", ITEM_OWN, put_outcome, NULL},
    {"queue", ITEM_OWN, put_queue, NULL},
    {"response", ITEM_OWN, put_response, NULL},
    {"deferred", ITEM_OWN, put_deferred, NULL},
    {"done", ITEM_OWN, put_done, NULL},
    {"failed", ITEM_OWN, put_failed, NULL},
    {"skipped", ITEM_OWN, put_skipped, NULL},
    {"tasks", ITEM_PEER, put_tasks, NULL},
    {"tries", ITEM_OWN, put_tries, NULL},
};

/* php-fpm's names. */
static const struct {
    const char *name;
    double ns;
} item_units[] = {
    {"", 1e9},
    {"seconds", 1e9},
    {"milliseconds", 1e6},
    {"milli", 1e6},
    {"miliseconds", 1e6},
    {"mili", 1e6},
    {"microseconds", 1e3},
    {"micro", 1e3},
};

/* Parts of names whose values are in no log. */
static const char *const item_secrets[] = {
    "AUTHORIZATION", "COOKIE",     "TOKEN",       "PASS",   "AUTH_PW", "AUTH_DIGEST",
    "CREDENTIAL",    "ACCESS_KEY", "PRIVATE_KEY", "SECRET", "API_KEY", "APIKEY"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct item_kind *item_find(const struct item_kind *kinds, size_t count,
                                         const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

static int item_is_secret(const char *name)
{
    char upper[ITEM_NAME_MAX];
    size_t len = strlen(name);
    for (size_t i = 0; i <= len; i++) {
        int c = toupper((unsigned char)name[i]);
        upper[i] = (char)(c == '-' ? '_' : c);
    }
    for (size_t i = 0; i < COUNT(item_secrets); i++) {
        if (strstr(upper, item_secrets[i]) != NULL) {
            return 1;
        }
    }
    return 0;
}

/* --- making one --------------------------------------------------------------------------------
 */

/* What stands in braces of %e and %o: the name of a param or header. */
static int item_check_name(const struct item *item, char letter, char *err, size_t err_size)
{
    if (item->name[0] == '\0') {
        snprintf(err, err_size, "%%%c needs a name, %%{NAME}%c", letter, letter);
        return -1;
    }
    if (item_is_secret(item->name)) {
        snprintf(err, err_size, "%%{%s}%c could be a secret, which no log holds", item->name,
                 letter);
        return -1;
    }
    return 0;
}

static int item_check_unit(struct item *item, char *err, size_t err_size)
{
    for (size_t i = 0; i < COUNT(item_units); i++) {
        if (strcasecmp(item->name, item_units[i].name) == 0) {
            item->unit = item_units[i].ns;
            return 0;
        }
    }
    snprintf(err, err_size, "%%{%s}d: allowed are seconds, milliseconds and microseconds",
             item->name);
    return -1;
}

static int item_check_own(struct item *item, char *err, size_t err_size)
{
    item->kind = item_find(item_names, COUNT(item_names), item->name);
    if (item->kind != NULL) {
        return 0;
    }
    size_t at = (size_t)snprintf(err, err_size, "%%{%s}x: allowed are", item->name);
    for (size_t i = 0; i < COUNT(item_names) && at < err_size; i++) {
        at += (size_t)snprintf(err + at, err_size - at, "%s %s", i > 0 ? "," : "",
                               item_names[i].name);
    }
    return -1;
}

int item_set(struct item *item, char letter, char *err, size_t err_size)
{
    char name[2] = {letter, '\0'};
    item->second = -1;
    if (letter == 'x') {
        return item_check_own(item, err, err_size);
    }
    if (letter == 'C' || letter == 'M' || letter == 'P') {
        snprintf(err, err_size, "%%%c: only php-fpm knows that, and it tells nobody", letter);
        return -1;
    }
    item->kind = item_find(item_letters, COUNT(item_letters), name);
    if (item->kind == NULL) {
        snprintf(err, err_size, "%%%.1s: allowed are %%%% d e f l m n o p q Q r R s t T u and x",
                 letter > ' ' && letter < 0x7f ? name : "?");
        return -1;
    }
    if (letter == 'd') {
        return item_check_unit(item, err, err_size);
    }
    if (letter == 'e' || letter == 'o') {
        return item_check_name(item, letter, err, err_size);
    }
    if (item->name[0] != '\0' && letter != 't' && letter != 'T') {
        snprintf(err, err_size, "%%{%s}%c: %%%c takes no braces", item->name, letter, letter);
        return -1;
    }
    return 0;
}

void item_set_literal(struct item *item)
{
    item->kind = &item_literal;
}

void item_put(struct item *item, struct item_line *line)
{
    if (item->kind->source != ITEM_OWN) {
        /* What one leaves over is for those behind it. */
        line->limit = line->room / line->peers;
        line->peers--;
    }
    item->kind->put(line, item);
}

/* --- notes ------------------------------------------------------------------------------------ */

static int note_add(struct request *request, const struct item *item, struct slice value)
{
    char text[4 * ITEM_VALUE_MAX + 1] = "-";
    if (value.len > 0) {
        item_escape(item, text, sizeof(text), value.data, value.len);
    }
    return buf_append(&request->note, text, strlen(text) + 1);
}

/* The value of the last header of this name. */
static struct slice response_header(const uint8_t *data, size_t len, const char *name)
{
    struct slice found = {0};
    size_t name_len = strlen(name);
    const uint8_t *end = data + len;
    while (data < end) {
        const uint8_t *lf = memchr(data, '\n', (size_t)(end - data));
        const uint8_t *line_end = lf != NULL ? lf : end;
        if ((size_t)(line_end - data) > name_len && data[name_len] == ':' &&
            strncasecmp((const char *)data, name, name_len) == 0) {
            const uint8_t *from = data + name_len + 1;
            const uint8_t *to = line_end;
            while (from < to && (*from == ' ' || *from == '\t')) {
                from++;
            }
            while (to > from && (to[-1] == '\r' || to[-1] == ' ')) {
                to--;
            }
            found = (struct slice){from, (size_t)(to - from)};
        }
        data = line_end + 1;
    }
    return found;
}

int item_note_header(const struct item *item, struct request *request, const uint8_t *data,
                     size_t len)
{
    return note_add(request, item, response_header(data, len, item->name));
}

int item_note_param(const struct item *item, struct request *request)
{
    return note_add(request, item, request_param(request, item_param_name(item)));
}
