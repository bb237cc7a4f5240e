#include "deferd/upgrade.h"

#include "deferd/log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int upgrade_find_binary(const char *argv0, char *out, size_t size)
{
    char directory[PATH_MAX];
    if (argv0[0] == '/') {
        return snprintf(out, size, "%s", argv0) < (int)size ? 0 : -1;
    }
    if (strchr(argv0, '/') != NULL && getcwd(directory, sizeof(directory)) != NULL) {
        return snprintf(out, size, "%s/%s", directory, argv0) < (int)size ? 0 : -1;
    }
    ssize_t len = readlink("/proc/self/exe", out, size - 1);
    out[len > 0 ? len : 0] = '\0';
    return len > 0 ? 0 : -1;
}

/* The command line as it was, but for the file's path, which holds in any directory. */
static const char **upgrade_argv(const char *argv0, const struct options *options)
{
    const char **argv = calloc(4 + 2 * (size_t)options->override_count, sizeof(*argv));
    size_t n = 0;
    if (argv == NULL) {
        return NULL;
    }
    argv[n++] = argv0;
    argv[n++] = "-c";
    argv[n++] = options->file;
    for (unsigned i = 0; i < options->override_count; i++) {
        argv[n++] = "-o";
        argv[n++] = options->overrides[i];
    }
    return argv;
}

void upgrade_execute(const char *binary, const char *argv0, const struct options *options,
                     const struct config *config, const struct handover *handover)
{
    const char **argv = upgrade_argv(argv0, options);
    log_line(LOG_NOTICE, "upgrade: master %d goes on as %s", (int)getpid(), binary);
    log_flush();
    if (argv != NULL && handover_write(handover, config) == 0) {
        execv(binary, (char *const *)argv);
    }
    log_line(LOG_ERROR, "upgrade: %s: %s; the master stays the old one", binary, strerror(errno));
    handover_undo(handover);
    free(argv);
}
