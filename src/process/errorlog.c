#include "deferd/errorlog.h"

#include "deferd/log.h"
#include "deferd/logs.h"
#include "deferd/privileges.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

int errorlog_open(const struct global_options *global, uid_t uid, gid_t gid, char *err,
                  size_t err_size)
{
    const char *to = global->error_log;
    int rc = 0;
    if (to[0] == '\0' || strcmp(to, "stderr") == 0) {
        log_open(STDERR_FILENO, global->log_level);
    } else if (strcmp(to, "syslog") == 0) {
        rc = log_open_syslog(global->syslog_socket);
    } else {
        rc = log_open_file(to, uid, gid);
    }
    if (rc != 0) {
        snprintf(err, err_size, "error_log = %s: %s", to, strerror(-rc));
        return -1;
    }
    log_set_level(global->log_level);
    log_set_format(global->log_format);
    log_syslog(global->syslog_ident, global->syslog_facility);
    return 0;
}

void errorlog_follow(const struct global_options *global)
{
    uid_t uid;
    gid_t gid;
    char err[512];
    if (privileges_find(global->user, global->group, &uid, &gid, err, sizeof(err)) != 0 ||
        errorlog_open(global, uid, gid, err, sizeof(err)) != 0) {
        log_line(LOG_ERROR, "%s; the master's log goes on in the old one", err);
    }
}

void errorlog_reopen(const struct config *config)
{
    uid_t uid;
    gid_t gid;
    char err[256];
    log_reopen();
    if (privileges_find(config->global.user, config->global.group, &uid, &gid, err, sizeof(err)) ==
        0) {
        logs_make_files(config->pools, config->pool_count, uid, gid);
    }
}
