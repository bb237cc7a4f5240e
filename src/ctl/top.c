/*
 * Happy path: once a second three commands, then one write that draws the whole screen, so that
 * nothing flickers; or one that is a line of JSON. Failure modes: deferd goes away or is reloaded:
 * the screen or the line says so, and the next second tries again; a signal ends it, and the
 * terminal is put back in each case.
 */
#include "deferd/top.h"

#include "deferd/terminal.h"
#include "deferd/view.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define TOP_DELAY_MS_MAX 86400000
#define TOP_DELAY_MS_MIN 100
#define TOP_COUNT_MAX    1000000000

/* Each line is cleared behind its text, the rest of the screen behind the last. */
#define TOP_END "\x1b[K\r\n"

static volatile sig_atomic_t top_ended;

static void top_on_signal(int number)
{
    top_ended = number;
}

static const int top_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};

static void top_watch_signals(void)
{
    struct sigaction action = {.sa_handler = top_on_signal};
    for (size_t i = 0; i < sizeof(top_signals) / sizeof(top_signals[0]); i++) {
        sigaction(top_signals[i], &action, NULL);
    }
    signal(SIGTSTP, SIG_IGN); /* stopped, it would leave the terminal as it is now */
}

static void top_write(const char *text, size_t len)
{
    size_t at = 0;
    while (at < len) {
        ssize_t n = write(STDOUT_FILENO, text + at, len - at);
        if (n < 0 && errno != EINTR) {
            return;
        }
        at += n > 0 ? (size_t)n : 0;
    }
}

static void top_put(const char *text)
{
    top_write(text, strlen(text));
}

/* What one refresh shows: time, and the results of these commands; or time and error. */
static const char *const top_commands[] = {"status", "pools", "list"};

static json_t *top_ask(struct link *link)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    long long ms = now.tv_sec * 1000LL + now.tv_nsec / 1000000;
    double time = (double)ms / 1000;
    json_t *shown = json_pack("{s:f}", "time", time);
    for (size_t i = 0; i < sizeof(top_commands) / sizeof(top_commands[0]); i++) {
        json_t *result;
        enum link_status status = link_call(link, top_commands[i], &result);
        if (status == LINK_ABSENT) {
            status = link_call(link, top_commands[i], &result); /* a reload has closed it */
        }
        if (status != LINK_OK) {
            json_decref(shown);
            return json_pack("{s:f,s:s}", "time", time, "error", link->err);
        }
        json_object_set_new(shown, top_commands[i], result);
    }
    return shown;
}

/* Returns 0, or -1 if standard output does not take it. */
static int top_print(struct link *link)
{
    json_t *shown = top_ask(link);
    int rc = json_dumpf(shown, stdout, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
    json_decref(shown);
    return rc == 0 && putchar('\n') != EOF && fflush(stdout) == 0 ? 0 : -1;
}

static void top_draw_head(FILE *out, size_t width)
{
    char stamp[64];
    char shown[128];
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "deferctl top  %H:%M:%S  q ends", &tm);
    terminal_text(shown, sizeof(shown), stamp, width);
    fprintf(out, "\x1b[7m%s\x1b[0m%s", shown, TOP_END);
}

static void top_draw(struct link *link, const struct winsize *size)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return;
    }
    json_t *shown = top_ask(link);
    const char *error = json_string_value(json_object_get(shown, "error"));
    struct view view = {out, size->ws_col, 0, TOP_END};
    top_draw_head(out, size->ws_col);
    if (error == NULL) {
        view_status(&view, json_object_get(shown, "status"));
        fputs(TOP_END, out);
        view.rows = size->ws_row / 3U + 1;
        view_pools(&view, json_object_get(shown, "pools"));
        fputs(TOP_END, out);
        view.rows = size->ws_row > 12 ? size->ws_row - 10U : 2;
        view_list(&view, json_object_get(shown, "list"));
    } else {
        char line[1024];
        terminal_text(line, sizeof(line), error, size->ws_col);
        fprintf(out, "%s%s", line, TOP_END);
    }
    json_decref(shown);
    fclose(out);
    /* No more lines than the screen has, or it would scroll. */
    size_t lines = 0;
    size_t end = 0;
    while (end < len && lines + 1 < size->ws_row) {
        lines += text[end++] == '\n';
    }
    top_put("\x1b[H");
    top_write(text, end);
    top_put("\x1b[J");
    free(text);
}

/* Waits for the next refresh. Returns 0 if it is to end. */
static int top_wait(int delay_ms)
{
    char key;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int n = poll(&input, 1, delay_ms);
    if (n > 0) {
        return read(STDIN_FILENO, &key, 1) == 1 && key != 'q' && key != 'Q' && key != 3;
    }
    return n == 0 || errno == EINTR;
}

static void top_in_terminal(struct link *link, const struct top_options *options)
{
    struct termios before;
    struct winsize size;
    long left = options->count;
    tcgetattr(STDIN_FILENO, &before);
    struct termios raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    link->ended = &top_ended;
    top_watch_signals();
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    top_put("\x1b[?1049h\x1b[?25l");
    do {
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) {
            size = (struct winsize){.ws_row = 24, .ws_col = 80};
        }
        top_draw(link, &size);
    } while (--left != 0 && !top_ended && top_wait(options->delay_ms) && !top_ended);
    top_put("\x1b[?25h\x1b[?1049l");
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

/* A signal ends it, as any filter: nothing has to be put back. */
static enum link_status top_as_json(struct link *link, const struct top_options *options)
{
    for (long left = options->count;;) {
        if (top_print(link) != 0) {
            snprintf(link->err, sizeof(link->err), "top: cannot write: %s", strerror(errno));
            return LINK_FAILED;
        }
        if (--left == 0) {
            return LINK_OK;
        }
        poll(NULL, 0, options->delay_ms);
    }
}

enum link_status top_run(struct link *link, const struct top_options *options)
{
    json_t *status;
    if (!options->json && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))) {
        snprintf(link->err, sizeof(link->err), "top: needs a terminal, or --json");
        return LINK_USAGE;
    }
    enum link_status result = link_call(link, "status", &status);
    json_decref(status);
    if (result != LINK_OK) {
        return result; /* at the beginning; later it may come back */
    }
    if (options->json) {
        return top_as_json(link, options);
    }
    top_in_terminal(link, options);
    return LINK_OK;
}

/* --- how often -------------------------------------------------------------------------------- */

static int top_parse_count(const char *text, long *out)
{
    char *end;
    *out = strtol(text, &end, 10);
    return end != text && *end == '\0' && *out >= 1 && *out <= TOP_COUNT_MAX ? 0 : -1;
}

static int top_parse_delay(const char *text, int *out)
{
    char *end;
    double ms = strtod(text, &end) * 1000;
    if (end == text || *end != '\0' || !(ms >= TOP_DELAY_MS_MIN && ms <= TOP_DELAY_MS_MAX)) {
        return -1;
    }
    *out = (int)ms;
    return 0;
}

int top_parse(struct top_options *options, int count, char **words)
{
    int option;
    options->count = 0;
    options->delay_ms = 1000;
    optind = 0; /* begins anew, behind main's */
    opterr = 0;
    while ((option = getopt(count, words, "n:d:")) != -1) {
        int rc = option == 'n'   ? top_parse_count(optarg, &options->count)
                 : option == 'd' ? top_parse_delay(optarg, &options->delay_ms)
                                 : -1;
        if (rc != 0) {
            return -1;
        }
    }
    return optind == count ? 0 : -1;
}
