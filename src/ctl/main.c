/*
 * deferctl: commands for a running deferd, over its control socket.
 */
#include "deferd/commands.h"
#include "deferd/config.h"
#include "deferd/link.h"
#include "deferd/terminal.h"
#include "deferd/top.h"
#include "deferd/view.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef DEFERD_VERSION
#define DEFERD_VERSION "unknown"
#endif

#define CTL_SOCKET "/run/deferd/control.sock"

struct ctl_command {
    const char *name;
    const char *arguments;
    int min;
    int max;
    const char *help;
};

#define CTL_ROW(name, function, arguments, right, min, max, help) {name, arguments, min, max, help},

static const struct ctl_command ctl_commands[] = {
    COMMANDS(CTL_ROW){"top", "[-n COUNT] [-d SECONDS]", 0, 4,
                      "what runs, live, every second or every SECONDS; q ends"},
};

#define CTL_COMMANDS (sizeof(ctl_commands) / sizeof(ctl_commands[0]))

/* The answers that are more than a yes. */
static const struct {
    const char *name;
    void (*view)(const struct view *view, const json_t *result);
} ctl_views[] = {
    {"status", view_status}, {"pools", view_pools}, {"list", view_list},
    {"show", view_show},     {"help", view_help},
};

static void ctl_help(void)
{
    printf("Usage: deferctl [-s SOCKET|-c FILE] [--json] COMMAND [ARGUMENT]...\n"
           "Commands for a running deferd.\n\n"
           "  -s, --socket SOCKET  its control socket (default $DEFERD_CONTROL, or\n"
           "                       " CTL_SOCKET ")\n"
           "  -c, --config FILE    take the socket from this configuration\n"
           "  -j, --json           print the answer as JSON\n"
           "  -h, --help           this text\n"
           "  -v, --version        the version\n\n");
    for (size_t i = 0; i < CTL_COMMANDS; i++) {
        char left[128];
        snprintf(left, sizeof(left), "%s %s", ctl_commands[i].name, ctl_commands[i].arguments);
        if (strlen(left) > 20) {
            printf("  %s\n  %-21s%s\n", left, "", ctl_commands[i].help);
        } else {
            printf("  %-21s%s\n", left, ctl_commands[i].help);
        }
    }
    printf("\nExit status: 0 all is well, 1 the command failed, 2 wrong usage, 3 deferd cannot be\n"
           "reached, 4 no permission. See deferctl(1).\n");
}

__attribute__((format(printf, 2, 3))) static int ctl_error(enum link_status status,
                                                           const char *format, ...)
{
    char text[1024];
    char shown[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    terminal_text(shown, sizeof(shown), text, 0);
    fprintf(stderr, "deferctl: %s%s\n", shown,
            status == LINK_USAGE ? " (see deferctl --help)" : "");
    return status;
}

/* --- which socket ----------------------------------------------------------------------------- */

/* The socket that a configuration names. Returns 0 or an exit status. */
static int ctl_socket_of(const char *file, char *out, size_t size)
{
    static struct config config;
    if (access(file, R_OK) != 0) {
        return ctl_error(errno == EACCES ? LINK_DENIED : LINK_FAILED, "%s: %s", file,
                         strerror(errno));
    }
    config_init(&config);
    config_load(&config, file); /* its errors are deferd's to tell */
    snprintf(out, size, "%s", config.global.control);
    config_free(&config);
    if (out[0] == '\0') {
        return ctl_error(LINK_ABSENT, "%s: names no control socket: control = PATH in [global]",
                         file);
    }
    return 0;
}

/* --- one command ------------------------------------------------------------------------------ */

static const struct ctl_command *ctl_find(const char *name)
{
    for (size_t i = 0; i < CTL_COMMANDS; i++) {
        if (strcmp(ctl_commands[i].name, name) == 0) {
            return &ctl_commands[i];
        }
    }
    return NULL;
}

/* The line of a command. Returns 0, or -1 if a word cannot stand in one. */
static int ctl_line(char *out, size_t size, char **words)
{
    size_t at = 0;
    out[0] = '\0';
    for (; *words != NULL; words++) {
        if (*words[0] == '\0' || strpbrk(*words, " \t\r\n") != NULL) {
            return -1;
        }
        int n = snprintf(out + at, size - at, "%s%s", at > 0 ? " " : "", *words);
        if ((size_t)n >= size - at) {
            return -1;
        }
        at += (size_t)n;
    }
    return 0;
}

static void ctl_print(const char *command, const json_t *result)
{
    struct winsize window;
    struct view view = {stdout, 0, 0, "\n"};
    if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0) {
        view.width = window.ws_col;
    }
    for (size_t i = 0; i < sizeof(ctl_views) / sizeof(ctl_views[0]); i++) {
        if (strcmp(ctl_views[i].name, command) == 0) {
            ctl_views[i].view(&view, result);
        }
    }
}

static int ctl_usage(const struct ctl_command *command)
{
    return ctl_error(LINK_USAGE, "usage: deferctl %s %s", command->name, command->arguments);
}

static int ctl_top(struct link *link, const struct ctl_command *command, char **words, int count,
                   int json)
{
    struct top_options options = {.json = json};
    if (top_parse(&options, count, words) != 0) {
        return ctl_usage(command);
    }
    enum link_status status = top_run(link, &options);
    link_close(link);
    return status == LINK_OK ? LINK_OK : ctl_error(status, "%s", link->err);
}

static int ctl_run(const char *socket, char **words, int count, int json)
{
    char line[1000];
    json_t *result;
    struct link link = {.path = socket, .fd = -1};
    const struct ctl_command *command = ctl_find(words[0]);
    if (command == NULL) {
        return ctl_error(LINK_USAGE, "there is no command \"%s\"", words[0]);
    }
    if (count - 1 < command->min || count - 1 > command->max) {
        return ctl_usage(command);
    }
    if (ctl_line(line, sizeof(line), words) != 0) {
        return ctl_error(LINK_USAGE, "an argument is empty, too long, or has blanks");
    }
    if (strcmp(command->name, "top") == 0) {
        return ctl_top(&link, command, words, count, json);
    }
    enum link_status status = link_call(&link, line, &result);
    link_close(&link);
    if (status != LINK_OK) {
        return ctl_error(status, "%s", link.err);
    }
    if (json) {
        json_dumpf(result, stdout, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
        putchar('\n');
    } else {
        ctl_print(command->name, result);
    }
    json_decref(result);
    return fflush(stdout) == 0 ? LINK_OK : LINK_FAILED;
}

/* --- the command line ------------------------------------------------------------------------- */

/* Takes --json out of the words, wherever it stands. Returns how often it stood there. */
static int ctl_take_json(char **words, int *count)
{
    int kept = 0;
    for (int i = 0; i < *count; i++) {
        if (strcmp(words[i], "--json") != 0) {
            words[kept++] = words[i];
        }
    }
    int taken = *count - kept;
    words[kept] = NULL;
    *count = kept;
    return taken;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"socket", required_argument, NULL, 's'}, {"config", required_argument, NULL, 'c'},
        {"json", no_argument, NULL, 'j'},         {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},      {NULL, 0, NULL, 0},
    };
    char path[256] = "";
    const char *environment = getenv("DEFERD_CONTROL");
    int json = 0;
    int option;
    setlocale(LC_CTYPE, "");
    snprintf(path, sizeof(path), "%s",
             environment != NULL && environment[0] != '\0' ? environment : CTL_SOCKET);
    while ((option = getopt_long(argc, argv, "+s:c:jhv", longs, NULL)) != -1) {
        int status;
        switch (option) {
        case 's':
            snprintf(path, sizeof(path), "%s", optarg);
            break;
        case 'c':
            status = ctl_socket_of(optarg, path, sizeof(path));
            if (status != 0) {
                return status;
            }
            break;
        case 'j':
            json = 1;
            break;
        case 'h':
            ctl_help();
            return LINK_OK;
        case 'v':
            printf("deferctl %s\n", DEFERD_VERSION);
            return LINK_OK;
        default:
            return ctl_error(LINK_USAGE, "wrong usage");
        }
    }
    int count = argc - optind;
    json |= ctl_take_json(argv + optind, &count) > 0;
    if (count == 0) {
        return ctl_error(LINK_USAGE, "a command is missing");
    }
    return ctl_run(path, argv + optind, count, json);
}
