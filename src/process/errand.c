/*
 * Happy path: look up in the master's own configuration which php-fpm is meant, have a signal sent,
 * say done. Failure modes: whatever is wrong is told to the worker. What it says is not believed:
 * it may have been taken over by somebody who wants to have others' processes killed.
 */
#include "deferd/errand.h"

#include "deferd/fpm.h"
#include "deferd/log.h"
#include "deferd/stop.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ERRAND_NO_POOL "there is no such pool"

/* fpm POOL */
static int errand_reload_fpm(const struct config *config, const char *line, char *err,
                             size_t err_size)
{
    const struct pool_options *pool = config_find_pool(config, line + strlen("fpm "));
    if (pool == NULL || pool->fpm_pid[0] == '\0') {
        snprintf(err, err_size, ERRAND_NO_POOL);
        return -1;
    }
    return fpm_signal_reload(pool->fpm_pid, err, err_size);
}

/* end POOL PID STARTED REQUEST */
static int errand_end_worker(const struct config *config, const char *line, char *err,
                             size_t err_size)
{
    char name[32] = "";
    int pid = 0;
    unsigned long long started = 0;
    unsigned long long request = 0;
    int rc = -1;
    sscanf(line, "end %31s %d %llu %llu", name, &pid, &started, &request);
    const struct pool_options *pool = config_find_pool(config, name);
    snprintf(err, err_size, ERRAND_NO_POOL);
    for (unsigned i = 0; rc != 0 && pool != NULL && i < pool->upstream_count; i++) {
        rc =
            fpm_end_worker(&pool->upstreams[i].address, pool->fpm_pid, pid, started, err, err_size);
    }
    if (rc == 0) {
        /* Said here, for the worker may hear of the phase's end first. */
        log_line(LOG_NOTICE, STOP_FORCED_LINE, request, pid);
    } else if (geteuid() != 0) {
        snprintf(err, err_size,
                 "the worker is another user's; only a master that is root may signal it, and "
                 "deferd's is not");
    }
    return rc;
}

static const struct {
    const char *begins;
    int (*run)(const struct config *config, const char *line, char *err, size_t err_size);
} errands[] = {{"fpm ", errand_reload_fpm}, {"end ", errand_end_worker}};

int errand_run(const struct config *config, const struct child *child, const char *line)
{
    char err[512];
    for (size_t i = 0; i < sizeof(errands) / sizeof(errands[0]); i++) {
        if (strncmp(line, errands[i].begins, strlen(errands[i].begins)) != 0) {
            continue;
        }
        if (errands[i].run(config, line, err, sizeof(err)) == 0) {
            child_tell(child, "done");
        } else {
            log_line(LOG_WARNING, "worker %d asked for a signal to php-fpm: %s", (int)child->pid,
                     err);
            child_tell(child, "failed %s", err);
        }
        return 1;
    }
    return 0;
}
