#include "deferd/privileges.h"

#include "deferd/log.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int privileges_find(const char *user, const char *group, uid_t *uid, gid_t *gid, char *err,
                    size_t err_size)
{
    *uid = (uid_t)-1;
    *gid = (gid_t)-1;
    if (geteuid() != 0) {
        return 0;
    }
    if (user[0] != '\0') {
        const struct passwd *entry = getpwnam(user);
        if (entry == NULL) {
            snprintf(err, err_size, "user = %s: there is no such user", user);
            return -1;
        }
        *uid = entry->pw_uid;
        *gid = entry->pw_gid;
    }
    if (group[0] != '\0') {
        const struct group *entry = getgrnam(group);
        if (entry == NULL) {
            snprintf(err, err_size, "group = %s: there is no such group", group);
            return -1;
        }
        *gid = entry->gr_gid;
    }
    return 0;
}

void privileges_warn(const char *user, const char *group)
{
    const struct passwd *is_user = user[0] != '\0' ? getpwnam(user) : NULL;
    const struct group *is_group = group[0] != '\0' ? getgrnam(group) : NULL;
    if (geteuid() == 0) {
        return;
    }
    if (is_user != NULL && is_user->pw_uid != geteuid()) {
        log_line(LOG_WARNING, "user = %s is ignored: deferd is not started by root", user);
    }
    if (is_group != NULL && is_group->gr_gid != getegid()) {
        log_line(LOG_WARNING, "group = %s is ignored: deferd is not started by root", group);
    }
}

/* The groups beside gid: those of the user; without one, none. What root was in, for whatever
 * reason, a worker that was given a group is not. Returns 0 or -1. */
static int privileges_set_groups(const char *user, gid_t gid)
{
    return user[0] != '\0' ? initgroups(user, gid) : setgroups(1, &gid);
}

int privileges_drop(const char *user, const char *group, char *err, size_t err_size)
{
    uid_t uid;
    gid_t gid;
    if (privileges_find(user, group, &uid, &gid, err, err_size) != 0) {
        return -1;
    }
    /* In this order: who is not root any more can change no groups. */
    if ((gid != (gid_t)-1 && (setgid(gid) != 0 || privileges_set_groups(user, gid) != 0)) ||
        (uid != (uid_t)-1 && setuid(uid) != 0)) {
        snprintf(err, err_size, "cannot become user \"%s\", group \"%s\": %s", user, group,
                 strerror(errno));
        return -1;
    }
    return 0;
}
