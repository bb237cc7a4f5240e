/*
 * Happy path: once a second three commands, then one write that draws the whole screen, so that
 * nothing flickers. Failure modes: deferd goes away or is reloaded: the screen says so, and the
 * next second tries again; a signal ends it, and the terminal is put back in each case.
 */
#include "deferd/top.h"

#include "deferd/terminal.h"
#include "deferd/view.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define TOP_INTERVAL_MS 1000

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

/* Asks for one thing; draws nothing of it if that fails. */
static int top_fetch(struct link *link, const char *command, json_t **out, enum link_status *status)
{
    *status = link_call(link, command, out);
    if (*status == LINK_ABSENT) {
        *status = link_call(link, command, out); /* a reload has closed the connection */
    }
    return *status == LINK_OK;
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
    json_t *status = NULL;
    json_t *pools = NULL;
    json_t *phases = NULL;
    enum link_status result;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return;
    }
    struct view view = {out, size->ws_col, 0, TOP_END};
    top_draw_head(out, size->ws_col);
    if (top_fetch(link, "status", &status, &result) && top_fetch(link, "pools", &pools, &result) &&
        top_fetch(link, "list", &phases, &result)) {
        view_status(&view, status);
        fputs(TOP_END, out);
        view.rows = size->ws_row / 3U + 1;
        view_pools(&view, pools);
        fputs(TOP_END, out);
        view.rows = size->ws_row > 12 ? size->ws_row - 10U : 2;
        view_list(&view, phases);
    } else {
        char shown[1024];
        terminal_text(shown, sizeof(shown), link->err, size->ws_col);
        fprintf(out, "%s%s", shown, TOP_END);
    }
    json_decref(status);
    json_decref(pools);
    json_decref(phases);
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

/* Waits for the next second. Returns 0 if it is to end. */
static int top_wait(void)
{
    char key;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int n = poll(&input, 1, TOP_INTERVAL_MS);
    if (n > 0) {
        return read(STDIN_FILENO, &key, 1) == 1 && key != 'q' && key != 'Q' && key != 3;
    }
    return n == 0 || errno == EINTR;
}

enum link_status top_run(struct link *link)
{
    struct termios before;
    struct winsize size;
    json_t *status = NULL;
    if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before) != 0) {
        snprintf(link->err, sizeof(link->err), "top: needs a terminal");
        return LINK_USAGE;
    }
    enum link_status result = link_call(link, "status", &status);
    json_decref(status);
    if (result != LINK_OK) {
        return result; /* at the beginning; later it may come back */
    }
    struct termios raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    top_watch_signals();
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    top_put("\x1b[?1049h\x1b[?25l");
    do {
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) {
            size = (struct winsize){.ws_row = 24, .ws_col = 80};
        }
        top_draw(link, &size);
    } while (!top_ended && top_wait() && !top_ended);
    top_put("\x1b[?25h\x1b[?1049l");
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return LINK_OK;
}
