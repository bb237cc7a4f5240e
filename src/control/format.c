#include "deferd/format.h"

#include "deferd/log.h"
#include "deferd/params.h"
#include "deferd/pool.h"
#include "deferd/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <uv.h>

#define FORMAT_ITEMS_MAX 64
#define FORMAT_NAME_MAX  64

/* Of one line: what is left to texts of deferd's own when peers' texts have taken all they may. */
#define FORMAT_RESERVE 1024

/* One value of a peer, before it is escaped. */
#define FORMAT_VALUE_MAX 1024

struct item;

/* A line that is being written. */
struct line {
    const struct request *request;
    enum outcome outcome;
    uint64_t now; /* uv_hrtime() */
    struct timespec wall;
    char *out;
    size_t at;
    size_t size;
    size_t room;    /* for what peers sent, */
    size_t limit;   /* for one of those texts, */
    unsigned peers; /* and how many of them are to come */
};

struct kind {
    const char *name; /* the letter, or the NAME of %{NAME}x */
    void (*put)(struct line *line, struct item *item);
    const char *param; /* the param that it shows, if it does */
};

struct item {
    const struct kind *kind;
    char name[FORMAT_NAME_MAX]; /* what stood in braces */
    int quoted;                 /* it stands between double quotes */
    unsigned note;              /* its place in the request's note, from 1; 0 if it has none */
    double unit;                /* of durations, in nanoseconds */
    time_t second;              /* what text shows, of times */
    char text[64];
};

struct format {
    struct item items[FORMAT_ITEMS_MAX];
    unsigned count;
    unsigned headers; /* items that show a response header; the note's first places */
    unsigned params;  /* items that show a param; its last */
    unsigned peers;   /* items that show what a peer sent */
    size_t literals;  /* bytes of texts between the items */
};

/* --- writing ---------------------------------------------------------------------------------- */

static void line_add(struct line *line, const char *text, size_t len)
{
    size_t room = line->size - line->at;
    len = len < room ? len : room;
    memcpy(line->out + line->at, text, len);
    line->at += len;
}

static void line_text(struct line *line, const char *text)
{
    line_add(line, text[0] != '\0' ? text : "-", text[0] != '\0' ? strlen(text) : 1);
}

static void line_number(struct line *line, unsigned long long number)
{
    char text[24];
    line_add(line, text, (size_t)snprintf(text, sizeof(text), "%llu", number));
}

static void line_ms(struct line *line, uint64_t from, uint64_t to)
{
    char text[32];
    double ms = from != 0 && to > from ? (double)(to - from) / 1e6 : 0;
    line_add(line, text, (size_t)snprintf(text, sizeof(text), "%.3f", ms));
}

/* Escapes what a peer sent into out. */
static void item_escape(const struct item *item, char *out, size_t size, const void *data,
                        size_t len)
{
    len = len < FORMAT_VALUE_MAX ? len : FORMAT_VALUE_MAX;
    if (item->quoted) {
        log_escape(out, size, data, len);
    } else {
        log_escape_word(out, size, data, len);
    }
}

/* An escaped text, as far as there is room; never a part of an escape. */
static void line_peer_text(struct line *line, const char *text)
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

static void line_peer(struct line *line, const struct item *item, const void *data, size_t len,
                      const char *absent)
{
    char text[4 * FORMAT_VALUE_MAX + 1];
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

static void put_param(struct line *line, struct item *item)
{
    const char *noted = note_value(line->request, item->note);
    if (noted != NULL) {
        line_peer_text(line, noted);
        return;
    }
    struct slice value = request_param(line->request, item_param_name(item));
    line_peer(line, item, value.data, value.len, "-");
}

static void put_header(struct line *line, struct item *item)
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

static void put_path(struct line *line, struct item *item)
{
    line_peer(line, item, line->request->head.uri.data, uri_path(line->request), "-");
}

static void put_query_mark(struct line *line, struct item *item)
{
    (void)item;
    if (uri_path(line->request) < line->request->head.uri.len) {
        line_add(line, "?", 1);
    }
}

static void put_query(struct line *line, struct item *item)
{
    const struct slice *uri = &line->request->head.uri;
    size_t path = uri_path(line->request);
    if (path < uri->len) {
        line_peer(line, item, uri->data + path + 1, uri->len - path - 1, "");
    }
}

static void put_method(struct line *line, struct item *item)
{
    const struct slice *method = &line->request->head.method;
    line_peer(line, item, method->data, method->len, "-");
}

static void put_length(struct line *line, struct item *item)
{
    long long length = line->request->head.content_length;
    (void)item;
    line_number(line, length > 0 ? (unsigned long long)length : 0);
}

static void put_status(struct line *line, struct item *item)
{
    (void)item;
    if (line->request->status != 0) {
        line_number(line, (unsigned)line->request->status);
    } else {
        line_text(line, "-");
    }
}

static void put_pool(struct line *line, struct item *item)
{
    (void)item;
    line_text(line, line->request->pool->options->name);
}

static void put_pid(struct line *line, struct item *item)
{
    (void)item;
    if (line->request->deferral.pid > 0) {
        line_number(line, (unsigned long long)line->request->deferral.pid);
    } else {
        line_text(line, "-");
    }
}

/* --- times ------------------------------------------------------------------------------------ */

static uint64_t line_answered(const struct line *line)
{
    return line->request->answered != 0 ? line->request->answered : line->now;
}

static void put_duration(struct line *line, struct item *item)
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

static void put_moment(struct line *line, struct item *item, time_t second)
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

static void put_begin(struct line *line, struct item *item)
{
    uint64_t submitted = line->request->submitted;
    uint64_t age = submitted != 0 ? line->now - submitted : 0;
    uint64_t wall = (uint64_t)line->wall.tv_sec * 1000000000U + (uint64_t)line->wall.tv_nsec;
    put_moment(line, item, (time_t)((wall - age) / 1000000000U));
}

static void put_end(struct line *line, struct item *item)
{
    put_moment(line, item, line->wall.tv_sec);
}

/* --- deferd's own ----------------------------------------------------------------------------- */

static void put_id(struct line *line, struct item *item)
{
    (void)item;
    line_number(line, line->request->id);
}

static void put_class(struct line *line, struct item *item)
{
    const struct queue_class *class = line->request->class;
    (void)item;
    line_text(line, class != NULL ? class->options->name : "-");
}

static void put_upstream(struct line *line, struct item *item)
{
    const struct upstream *upstream = line->request->upstream;
    (void)item;
    line_text(line, upstream != NULL ? upstream->options->address.text : "-");
}

static void put_outcome(struct line *line, struct item *item)
{
    (void)item;
    line_text(line, outcome_name(line->outcome));
}

static void put_queue(struct line *line, struct item *item)
{
    const struct request *request = line->request;
    (void)item;
    line_ms(line, request->submitted,
            request->dispatched != 0 ? request->dispatched : line_answered(line));
}

static void put_response(struct line *line, struct item *item)
{
    (void)item;
    line_ms(line, line->request->submitted, line_answered(line));
}

static void put_deferred(struct line *line, struct item *item)
{
    (void)item;
    if (line->request->deferred != 0) {
        line_ms(line, line->request->deferred, line->now);
    } else {
        line_text(line, "-");
    }
}

static void put_done(struct line *line, struct item *item)
{
    (void)item;
    line_number(line, line->request->deferral.done);
}

static void put_failed(struct line *line, struct item *item)
{
    (void)item;
    line_number(line, line->request->deferral.failed);
}

static void put_skipped(struct line *line, struct item *item)
{
    (void)item;
    line_number(line, line->request->deferral.skipped);
}

static void put_tries(struct line *line, struct item *item)
{
    (void)item;
    line_number(line, line->request->tries);
}

static void put_literal(struct line *line, struct item *item)
{
    line_add(line, item->name, strlen(item->name));
}

/* --- the tables ------------------------------------------------------------------------------- */

static const struct kind format_literal = {"", put_literal, NULL};

static const struct kind format_letters[] = {
    {"d", put_duration, NULL},       {"e", put_param, NULL},  {"f", put_param, "SCRIPT_FILENAME"},
    {"l", put_length, NULL},         {"m", put_method, NULL}, {"n", put_pool, NULL},
    {"o", put_header, NULL},         {"p", put_pid, NULL},    {"q", put_query, NULL},
    {"Q", put_query_mark, NULL},     {"r", put_path, NULL},   {"R", put_param, "REMOTE_ADDR"},
    {"s", put_status, NULL},         {"t", put_begin, NULL},  {"T", put_end, NULL},
    {"u", put_param, "REMOTE_USER"},
};

static const struct kind format_names[] = {
    {"id", put_id, NULL},
    {"class", put_class, NULL},
    {"upstream", put_upstream, NULL},
    {"outcome", put_outcome, NULL},
    {"queue", put_queue, NULL},
    {"response", put_response, NULL},
    {"deferred", put_deferred, NULL},
    {"done", put_done, NULL},
    {"failed", put_failed, NULL},
    {"skipped", put_skipped, NULL},
    {"tries", put_tries, NULL},
};

/* php-fpm's names. */
static const struct {
    const char *name;
    double ns;
} format_units[] = {
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
static const char *const format_secrets[] = {"AUTHORIZATION", "COOKIE", "TOKEN",   "PASSW",
                                             "AUTH_PW",       "SECRET", "API_KEY", "APIKEY"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct kind *format_find(const struct kind *kinds, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

static int format_is_secret(const char *name)
{
    char upper[FORMAT_NAME_MAX];
    size_t len = strlen(name);
    for (size_t i = 0; i <= len; i++) {
        upper[i] = name[i] == '-'
                       ? '_'
                       : (char)(name[i] >= 'a' && name[i] <= 'z' ? name[i] - 32 : name[i]);
    }
    for (size_t i = 0; i < COUNT(format_secrets); i++) {
        if (strstr(upper, format_secrets[i]) != NULL) {
            return 1;
        }
    }
    return 0;
}

/* --- compiling -------------------------------------------------------------------------------- */

/* What stands in braces of %e and %o: the name of a param or header. */
static int item_check_name(const struct item *item, char letter, char *err, size_t err_size)
{
    if (item->name[0] == '\0') {
        snprintf(err, err_size, "%%%c needs a name, %%{NAME}%c", letter, letter);
        return -1;
    }
    if (format_is_secret(item->name)) {
        snprintf(err, err_size, "%%{%s}%c could be a secret, which no log holds", item->name,
                 letter);
        return -1;
    }
    return 0;
}

static int item_check_unit(struct item *item, char *err, size_t err_size)
{
    for (size_t i = 0; i < COUNT(format_units); i++) {
        if (strcasecmp(item->name, format_units[i].name) == 0) {
            item->unit = format_units[i].ns;
            return 0;
        }
    }
    snprintf(err, err_size, "%%{%s}d: allowed are seconds, milliseconds and microseconds",
             item->name);
    return -1;
}

static int item_check_own(struct item *item, char *err, size_t err_size)
{
    item->kind = format_find(format_names, COUNT(format_names), item->name);
    if (item->kind != NULL) {
        return 0;
    }
    size_t at = (size_t)snprintf(err, err_size, "%%{%s}x: allowed are", item->name);
    for (size_t i = 0; i < COUNT(format_names) && at < err_size; i++) {
        at += (size_t)snprintf(err + at, err_size - at, "%s %s", i > 0 ? "," : "",
                               format_names[i].name);
    }
    return -1;
}

/* An item's letter, its braces' content in item->name. Returns 0, or -1 with a sentence in err. */
static int item_set(struct item *item, char letter, char *err, size_t err_size)
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
    item->kind = format_find(format_letters, COUNT(format_letters), name);
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

static struct item *format_item(struct format *format, int quoted, char *err, size_t err_size)
{
    if (format->count == FORMAT_ITEMS_MAX) {
        snprintf(err, err_size, "allowed are at most %d items", FORMAT_ITEMS_MAX);
        return NULL;
    }
    struct item *item = &format->items[format->count++];
    item->quoted = quoted;
    return item;
}

/* Text up to the next item. Returns how much it takes, 0 with a sentence in err. */
static size_t format_literal_at(struct format *format, const char *text, int *quoted, char *err,
                                size_t err_size)
{
    size_t len = 0;
    struct item *item = format_item(format, *quoted, err, err_size);
    if (item == NULL) {
        return 0;
    }
    item->kind = &format_literal;
    while (text[len] != '\0' && text[len] != '%' && len < sizeof(item->name) - 1) {
        *quoted ^= text[len] == '"';
        len++;
    }
    memcpy(item->name, text, len);
    format->literals += len;
    return len;
}

/* An item; text is behind its %. Returns how much it takes, 0 with a sentence in err. */
static size_t format_item_at(struct format *format, const char *text, int quoted, char *err,
                             size_t err_size)
{
    size_t at = 0;
    struct item *item = format_item(format, quoted, err, err_size);
    if (item == NULL) {
        return 0;
    }
    if (text[0] == '%') {
        item->kind = &format_literal;
        item->name[0] = '%';
        format->literals++;
        return 1;
    }
    if (text[0] == '{') {
        size_t len = strcspn(text + 1, "}");
        if (text[1 + len] == '\0' || len == 0 || len >= sizeof(item->name)) {
            snprintf(err, err_size, "%%{ needs a name of at most %zu bytes, and a }",
                     sizeof(item->name) - 1);
            return 0;
        }
        memcpy(item->name, text + 1, len);
        at = len + 2;
    }
    if (text[at] == '\0') {
        snprintf(err, err_size, "a letter is missing behind the last %%");
        return 0;
    }
    return item_set(item, text[at], err, err_size) == 0 ? at + 1 : 0;
}

static int item_is_of_peer(const struct item *item)
{
    return item->kind->put == put_param || item->kind->put == put_header ||
           item->kind->put == put_path || item->kind->put == put_query ||
           item->kind->put == put_method;
}

/* Response headers come first in the note, for they are noted first. */
static void format_number(struct format *format)
{
    for (unsigned i = 0; i < format->count; i++) {
        format->peers += (unsigned)item_is_of_peer(&format->items[i]);
        if (format->items[i].kind->put == put_header) {
            format->items[i].note = ++format->headers;
        }
    }
    for (unsigned i = 0; i < format->count; i++) {
        if (format->items[i].kind->put == put_param) {
            format->items[i].note = format->headers + ++format->params;
        }
    }
}

int format_compile(struct format **out, const char *text, char *err, size_t err_size)
{
    int quoted = 0;
    struct format *format = calloc(1, sizeof(*format));
    if (format == NULL) {
        snprintf(err, err_size, "no memory");
        return -1;
    }
    for (size_t n; *text != '\0'; text += n) {
        n = *text == '%' ? format_item_at(format, text + 1, quoted, err, err_size)
                         : format_literal_at(format, text, &quoted, err, err_size);
        if (n == 0) {
            free(format);
            return -1;
        }
        n += *text == '%';
    }
    format_number(format);
    *out = format;
    return 0;
}

void format_free(struct format *format)
{
    free(format);
}

/* --- notes ------------------------------------------------------------------------------------ */

static int note_add(struct request *request, const struct item *item, struct slice value)
{
    char text[4 * FORMAT_VALUE_MAX + 1] = "-";
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

void format_note_response(const struct format *format, struct request *request, const uint8_t *data,
                          size_t len)
{
    for (unsigned i = 0; i < format->count && format->headers > 0; i++) {
        const struct item *item = &format->items[i];
        if (item->kind->put == put_header &&
            note_add(request, item, response_header(data, len, item->name)) != 0) {
            buf_free(&request->note);
            return;
        }
    }
}

void format_note_params(const struct format *format, struct request *request)
{
    if (format->headers > 0 && request->note.len == 0) {
        return; /* without them each of the params would stand in another one's place */
    }
    for (unsigned i = 0; i < format->count && format->params > 0; i++) {
        const struct item *item = &format->items[i];
        if (item->kind->put == put_param &&
            note_add(request, item, request_param(request, item_param_name(item))) != 0) {
            buf_free(&request->note);
            return;
        }
    }
}

size_t format_put(struct format *format, const struct request *request, enum outcome outcome,
                  char *out, size_t size)
{
    struct line line = {.request = request, .outcome = outcome, .out = out, .size = size - 1};
    size_t reserved = FORMAT_RESERVE + format->literals;
    line.now = uv_hrtime();
    clock_gettime(CLOCK_REALTIME, &line.wall);
    line.room = line.size > reserved ? line.size - reserved : 0;
    line.peers = format->peers;
    for (unsigned i = 0; i < format->count; i++) {
        struct item *item = &format->items[i];
        if (item_is_of_peer(item)) {
            /* What one leaves over is for those behind it. */
            line.limit = line.room / line.peers;
            line.peers--;
        }
        item->kind->put(&line, item);
    }
    out[line.at] = '\n';
    return line.at + 1;
}
