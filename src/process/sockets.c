#include "deferd/sockets.h"

#include "deferd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* Of metrics.listen: those who may read them are the same as for the pools. */
#define SOCKETS_METRICS_MODE    0660
#define SOCKETS_METRICS_BACKLOG 128

struct socket_entry *sockets_find(struct sockets *sockets, const struct address *address)
{
    for (unsigned i = 0; i < sockets->count; i++) {
        const struct address *known = &sockets->entries[i].asked;
        if (!sockets->entries[i].gone && known->len == address->len &&
            memcmp(&known->sa, &address->sa, known->len) == 0) {
            return &sockets->entries[i];
        }
    }
    return NULL;
}

/* A unix socket's path is not longer than an address can be (see its directive). */
static void sockets_of_path(struct socket_spec *spec, const char *path, mode_t mode,
                            const char *group)
{
    char err[256];
    char text[ADDRESS_TEXT_MAX];
    *spec = (struct socket_spec){.owner = "", .group = group, .mode = mode, .backlog = 64};
    if (path[0] != '\0') {
        snprintf(text, sizeof(text), "unix:%s", path);
        address_parse(&spec->address, text, err, sizeof(err));
    }
}

unsigned sockets_of_config(const struct config *config, struct socket_spec *out)
{
    const struct global_options *global = &config->global;
    unsigned count = config->pool_count;
    for (unsigned i = 0; i < count; i++) {
        const struct pool_options *pool = config->pools[i];
        out[i] = (struct socket_spec){.owner = pool->listen_owner,
                                      .group = pool->listen_group,
                                      .address = pool->listen,
                                      .mode = pool->listen_mode,
                                      .backlog = pool->listen_backlog};
    }
    sockets_of_path(&out[count + SOCKETS_CONTROL], global->control, global->control_mode,
                    global->control_group);
    sockets_of_path(&out[count + SOCKETS_READONLY], global->readonly, global->readonly_mode,
                    global->readonly_group);
    out[count + SOCKETS_METRICS] = (struct socket_spec){.owner = "",
                                                        .group = "",
                                                        .address = global->metrics_listen,
                                                        .mode = SOCKETS_METRICS_MODE,
                                                        .backlog = SOCKETS_METRICS_BACKLOG};
    return count + SOCKETS_EXTRA_COUNT;
}

void sockets_take_systemd(struct sockets *sockets)
{
    int count = sd_listen_fds(1);
    for (int i = 0; i < count && sockets->count < SOCKETS_MAX; i++) {
        struct listener listener = {.fd = SD_LISTEN_FDS_START + i};
        if (address_of_socket(&listener.address, listener.fd) != 0) {
            log_line(LOG_WARNING, "systemd passed descriptor %d, which is no socket", listener.fd);
            continue;
        }
        sockets->entries[sockets->count++] =
            (struct socket_entry){.listener = listener, .asked = listener.address};
        log_line(LOG_NOTICE, "%s: the socket comes from systemd", listener.address.text);
    }
}

/* Marks all as not wanted and not made. */
static void sockets_begin(struct sockets *sockets)
{
    for (unsigned i = 0; i < sockets->count; i++) {
        sockets->entries[i].wanted = 0;
        sockets->entries[i].made = 0;
    }
}

/* Is it an id in digits, as php-fpm allows too? */
static int sockets_is_number(const char *name)
{
    return name[strspn(name, "0123456789")] == '\0';
}

/* Names or numbers. Returns 0 or -1; an id stays -1 for an empty one. */
static int sockets_rights(const struct socket_spec *spec, struct socket_rights *out, char *err,
                          size_t err_size)
{
    *out = (struct socket_rights){(uid_t)-1, (gid_t)-1, spec->mode};
    if (spec->owner[0] != '\0' && sockets_is_number(spec->owner)) {
        out->uid = (uid_t)strtoul(spec->owner, NULL, 10);
    } else if (spec->owner[0] != '\0') {
        const struct passwd *user = getpwnam(spec->owner);
        if (user == NULL) {
            snprintf(err, err_size, "%s: there is no user %s", spec->address.text, spec->owner);
            return -1;
        }
        out->uid = user->pw_uid;
    }
    if (spec->group[0] != '\0' && sockets_is_number(spec->group)) {
        out->gid = (gid_t)strtoul(spec->group, NULL, 10);
    } else if (spec->group[0] != '\0') {
        const struct group *group = getgrnam(spec->group);
        if (group == NULL) {
            snprintf(err, err_size, "%s: there is no group %s", spec->address.text, spec->group);
            return -1;
        }
        out->gid = group->gr_gid;
    }
    return 0;
}

/* By a descriptor, so that nobody can put another file there between the look and the change.
 * Never, not even in between, may somebody connect whom neither the old rights nor the new ones
 * let. Returns 0, or -1 with errno; a path that is not ours any more is left alone. */
static int sockets_change_rights(const struct listener *listener, const struct socket_rights *to)
{
    char self[32];
    struct stat st;
    const char *path = ((const struct sockaddr_un *)&listener->address.sa)->sun_path;
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_dev != listener->dev || st.st_ino != listener->ino) {
        close(fd);
        return 0;
    }
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    uid_t uid = to->uid != (uid_t)-1 ? to->uid : geteuid();
    gid_t gid = to->gid != (gid_t)-1 ? to->gid : getegid();
    int rc = chmod(self, st.st_mode & to->mode);
    if (rc == 0) {
        rc = fchownat(fd, "", uid, gid, AT_EMPTY_PATH);
    }
    if (rc == 0) {
        rc = chmod(self, to->mode);
    }
    int error = errno;
    close(fd);
    errno = error;
    return rc;
}

/* A socket that stays gets the rights that it is to have now. */
static void sockets_apply_rights(struct socket_entry *entry)
{
    const struct socket_rights *is = &entry->rights;
    const struct socket_rights *to = &entry->coming;
    int changed = is->uid != to->uid || is->gid != to->gid || is->mode != to->mode;
    if (entry->known && changed && address_is_unix(&entry->asked) &&
        sockets_change_rights(&entry->listener, to) != 0) {
        log_line(LOG_ERROR, "%s: its mode, owner or group cannot be changed: %s", entry->asked.text,
                 strerror(errno));
    }
    entry->rights = *to;
    entry->known = 1;
}

int sockets_make(struct listener *listener, const struct socket_spec *spec, char *err,
                 size_t err_size)
{
    struct socket_rights rights;
    if (sockets_rights(spec, &rights, err, err_size) != 0 ||
        address_bind(listener, &spec->address, spec->mode, err, err_size) != 0) {
        return -1;
    }
    const char *path = ((const struct sockaddr_un *)&spec->address.sa)->sun_path;
    int rc = 0;
    if (address_is_unix(&spec->address) && (rights.uid != (uid_t)-1 || rights.gid != (gid_t)-1)) {
        rc = chown(path, rights.uid, rights.gid);
    }
    if (rc == 0) {
        rc = listen(listener->fd, (int)spec->backlog);
    }
    if (rc != 0) {
        snprintf(err, err_size, "cannot listen on %s: %s", spec->address.text, strerror(errno));
        address_unlink(listener);
        close(listener->fd);
    }
    return rc;
}

/* Has somebody deleted its file? Nobody can connect to it any more then. A file of somebody else's
 * in its place is left alone. */
static int sockets_is_gone(const struct socket_entry *entry)
{
    struct stat st;
    const char *path = ((const struct sockaddr_un *)&entry->asked.sa)->sun_path;
    if (!address_is_unix(&entry->asked) || lstat(path, &st) == 0 || errno != ENOENT) {
        return 0;
    }
    if (entry->listener.ino == 0) {
        log_line(LOG_WARNING, "%s: the file is gone; systemd made it, and has to make it again",
                 entry->asked.text);
        return 0;
    }
    log_line(LOG_WARNING, "%s: somebody has deleted the file; it is made again", entry->asked.text);
    return 1;
}

static int sockets_want(struct sockets *sockets, const struct socket_spec *spec, char *err,
                        size_t err_size)
{
    struct socket_rights rights;
    struct socket_entry *entry = sockets_find(sockets, &spec->address);
    if (sockets_rights(spec, &rights, err, err_size) != 0) {
        return -1;
    }
    if (entry != NULL && !sockets_is_gone(entry)) {
        entry->wanted = 1;
        entry->coming = rights;
        return 0;
    }
    if (sockets->count == SOCKETS_MAX) {
        snprintf(err, err_size, "cannot listen on %s: too many sockets", spec->address.text);
        return -1;
    }
    struct socket_entry made = {.asked = spec->address,
                                .rights = rights,
                                .coming = rights,
                                .known = 1,
                                .wanted = 1,
                                .made = 1};
    if (sockets_make(&made.listener, spec, err, err_size) != 0) {
        return -1;
    }
    if (entry != NULL) {
        entry->gone = 1;
    }
    sockets->entries[sockets->count++] = made;
    return 0;
}

int sockets_want_all(struct sockets *sockets, const struct config *config, char *err,
                     size_t err_size)
{
    struct socket_spec specs[SOCKETS_LIST_MAX];
    unsigned count = sockets_of_config(config, specs);
    sockets_begin(sockets);
    for (unsigned i = 0; i < count; i++) {
        if (specs[i].address.len > 0 && sockets_want(sockets, &specs[i], err, err_size) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Closes entry i; the last one takes its place. */
static void sockets_drop(struct sockets *sockets, unsigned i)
{
    address_unlink(&sockets->entries[i].listener);
    close(sockets->entries[i].listener.fd);
    sockets->entries[i] = sockets->entries[--sockets->count];
}

void sockets_undo(struct sockets *sockets)
{
    for (unsigned i = sockets->count; i-- > 0;) {
        if (sockets->entries[i].made) {
            sockets_drop(sockets, i);
        } else {
            sockets->entries[i].wanted = 1;
            sockets->entries[i].gone = 0;
        }
    }
}

void sockets_commit(struct sockets *sockets)
{
    for (unsigned i = sockets->count; i-- > 0;) {
        if (!sockets->entries[i].wanted) {
            sockets_drop(sockets, i);
        } else {
            sockets->entries[i].made = 0;
            sockets_apply_rights(&sockets->entries[i]);
        }
    }
}

void sockets_close(struct sockets *sockets)
{
    while (sockets->count > 0) {
        sockets_drop(sockets, sockets->count - 1);
    }
}
