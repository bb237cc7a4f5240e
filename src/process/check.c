/*
 * Happy path: for each upstream, find the php-fpm pool that listens there and go through the table
 * of what may not fit; then connect, as the worker would. Every finding says what happens and what
 * to do. Failure modes: without the pool's file only the connection is tried, and that is said.
 */
#include "deferd/check.h"

#include "deferd/fpmconf.h"
#include "deferd/polyfill.h"
#include "deferd/probe.h"
#include "deferd/worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

struct check {
    const struct config *config;
    const char *root;
    unsigned wrong;
    /* What is looked at: */
    const struct pool_options *pool;
    const struct upstream_options *upstream;
    const struct fpmconf *fpm;
    unsigned workers; /* that all pools together let into this php-fpm */
};

/* --- saying it -------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 0))) static void
check_say(const struct check *check, const char *kind, const char *format, va_list args)
{
    printf("%s: ", kind);
    if (check->pool != NULL) {
        printf("[%s] ", check->pool->name);
    }
    if (check->upstream != NULL) {
        printf("%s: ", check->upstream->address.text);
    }
    vprintf(format, args);
    printf("\n");
}

__attribute__((format(printf, 2, 3))) static void check_wrong(struct check *check,
                                                              const char *format, ...)
{
    va_list args;
    va_start(args, format);
    check_say(check, "wrong", format, args);
    va_end(args);
    check->wrong++;
}

__attribute__((format(printf, 2, 3))) static void check_note(const struct check *check,
                                                             const char *format, ...)
{
    va_list args;
    va_start(args, format);
    check_say(check, "note", format, args);
    va_end(args);
}

/* Milliseconds, as php-fpm's files have them or ours. */
static const char *check_time(char out[32], uint64_t ms)
{
    if (ms % 1000 == 0) {
        snprintf(out, 32, "%llus", (unsigned long long)(ms / 1000));
    } else {
        snprintf(out, 32, "%llums", (unsigned long long)ms);
    }
    return out;
}

/* --- php-fpm's pool --------------------------------------------------------------------------- */

static void check_workers(struct check *check)
{
    const struct fpmconf *fpm = check->fpm;
    if (fpm->max_children == 0) {
        return;
    }
    if (check->workers > fpm->max_children) {
        check_wrong(check,
                    "upstream.max_workers lets in %u requests at once, but pm.max_children = %u "
                    "in %s: the others wait in php-fpm's backlog, where nobody sees or bounds "
                    "them; make the two equal",
                    check->workers, fpm->max_children, fpm->file);
    } else if (check->workers < fpm->max_children) {
        check_note(check,
                   "upstream.max_workers lets in %u requests at once, and pm.max_children = %u in "
                   "%s: the other workers have nothing to do, unless somebody else uses them",
                   check->workers, fpm->max_children, fpm->file);
    }
}

static void check_terminate_timeout(struct check *check)
{
    char ours[32];
    char theirs[32];
    const struct fpmconf *fpm = check->fpm;
    const struct pool_options *pool = check->pool;
    check_time(theirs, fpm->terminate_timeout);
    if (fpm->terminate_timeout == 0) {
        return;
    }
    if (pool->keepalive && pool->idle_timeout * 2 > fpm->terminate_timeout) {
        check_wrong(check,
                    "upstream.idle_timeout = %s, but request_terminate_timeout = %s in %s runs "
                    "for a worker whose connection is kept unused, and kills it: set "
                    "upstream.idle_timeout to half of that at most",
                    check_time(ours, pool->idle_timeout), theirs, fpm->file);
    }
    if (pool->defer_timeout == 0 || pool->defer_timeout > fpm->terminate_timeout) {
        check_note(check,
                   "request_terminate_timeout = %s in %s counts deferred callbacks too, and kills "
                   "those that take longer, where defer.timeout = %s would let them",
                   theirs, fpm->file,
                   pool->defer_timeout == 0 ? "0" : check_time(ours, pool->defer_timeout));
    }
}

static void check_control_timeout(struct check *check)
{
    char ours[32];
    char theirs[32];
    const struct fpmconf *fpm = check->fpm;
    if (fpm->control_timeout == 0) {
        check_wrong(check,
                    "process_control_timeout is 0 in %s: a reload of php-fpm kills running "
                    "requests and deferred callbacks at once; set it to what the longest takes, "
                    "such as 60s",
                    fpm->main);
    } else if (check->pool->keepalive && check->pool->idle_timeout >= fpm->control_timeout) {
        check_wrong(check,
                    "upstream.idle_timeout = %s, but process_control_timeout = %s in %s: a kept "
                    "connection holds up a reload of php-fpm for all of it; set "
                    "upstream.idle_timeout lower",
                    check_time(ours, check->pool->idle_timeout),
                    check_time(theirs, fpm->control_timeout), fpm->main);
    }
}

static void check_buffers(struct check *check)
{
    const struct fpmconf_setting *zlib = &check->fpm->ini[FPMCONF_ZLIB];
    const struct fpmconf_setting *handler = &check->fpm->ini[FPMCONF_OUTPUT_HANDLER];
    const struct fpmconf_setting *buffering = &check->fpm->ini[FPMCONF_OUTPUT_BUFFERING];
    if (fpmconf_is_on(zlib->value)) {
        check_wrong(check,
                    "zlib.output_compression = %s in %s: its buffer cannot be removed once it has "
                    "given something out, so responses of more than some 16 kB end without "
                    "deferd's marker, and deferd sees nothing of their callbacks; switch it off "
                    "and compress in the web server",
                    zlib->value, zlib->file);
    }
    if (strcmp(handler->value, "ob_gzhandler") == 0) {
        check_wrong(check,
                    "output_handler = ob_gzhandler in %s: its buffer cannot be removed, so "
                    "responses end without deferd's marker, and deferd sees nothing of their "
                    "callbacks; take it out and compress in the web server",
                    handler->file);
    }
    /* On is 1, and that is no size: PHP takes it for no limit. */
    if (fpmconf_is_on(buffering->value) && atoi(buffering->value) <= 1) {
        check_note(check,
                   "output_buffering = %s in %s keeps a response back, and in memory, until it is "
                   "complete; a size, such as 4096, lets it go on its way",
                   buffering->value, buffering->file);
    }
}

static void check_pm(struct check *check)
{
    const struct fpmconf *fpm = check->fpm;
    if (strcmp(fpm->pm, "dynamic") == 0 || strcmp(fpm->pm, "ondemand") == 0) {
        check_note(check,
                   "pm = %s in %s: php-fpm starts workers only as it notices that they are "
                   "missing, up to seconds later; the requests that deferd has let in for them "
                   "wait meanwhile; pm = static has them ready",
                   fpm->pm, fpm->file);
    }
}

static void check_backlog(struct check *check)
{
    const struct fpmconf *fpm = check->fpm;
    if (fpm->backlog >= 0 && (unsigned)fpm->backlog < check->workers) {
        check_wrong(check,
                    "listen.backlog = %d in %s is less than the %u requests that "
                    "upstream.max_workers lets in: connections are refused when many come at "
                    "once; set it to 511, php-fpm's default",
                    fpm->backlog, fpm->file, check->workers);
    }
}

static void check_users(struct check *check)
{
    const char *user = check->config->global.user;
    if (user[0] != '\0' && check->fpm->user[0] != '\0' && strcmp(user, check->fpm->user) != 0 &&
        strcmp(user, "root") != 0) {
        check_note(check,
                   "php-fpm's workers are of user %s (%s), deferd's of user %s: deferd may not "
                   "signal them, so a deferred phase cannot be stopped by force",
                   check->fpm->user, check->fpm->file, user);
    }
}

/* --- functions -------------------------------------------------------------------------------- */

static int check_is_before(const struct fpmconf *fpm, unsigned major, unsigned minor)
{
    return fpm->version[0] != 0 &&
           (fpm->version[0] < major || (fpm->version[0] == major && fpm->version[1] < minor));
}

/* PHP takes a bare none for nothing. */
static int check_prepends(const struct fpmconf *fpm)
{
    const char *value = fpm->ini[FPMCONF_AUTO_PREPEND].value;
    return value[0] != '\0' && strcasecmp(value, "none") != 0;
}

/* Is name in a list of names with commas and blanks between them? */
static int check_list_has(const char *list, const char *name)
{
    size_t len = strlen(name);
    while (*list != '\0') {
        list += strspn(list, ", \t");
        size_t word = strcspn(list, ", \t");
        if (word == len && strncasecmp(list, name, len) == 0) {
            return 1;
        }
        list += word;
    }
    return 0;
}

static const char check_finish_name[] = "fastcgi_finish_request";

/* Whoever disables it may want its place taken by a function of their own (fact 25). */
static void check_finish_request(struct check *check)
{
    static const char *const name = check_finish_name;
    const struct fpmconf *fpm = check->fpm;
    const struct fpmconf_setting *all = &fpm->ini[FPMCONF_DISABLED];
    const struct fpmconf_setting *pool = &fpm->ini[FPMCONF_DISABLED_POOL];
    if (check_list_has(pool->value, name) && !check_list_has(all->value, name)) {
        check_wrong(check,
                    "disable_functions in %s takes %s from this pool alone: with an opcache that "
                    "is shared with other pools, workers crash; disable it in php.ini, for all "
                    "pools, or for none",
                    pool->file, name);
    } else if (check_list_has(all->value, name) && check_is_before(fpm, 8, 1)) {
        check_wrong(check,
                    "disable_functions in %s has %s, and in PHP %u.%u nothing can take its place, "
                    "deferd's polyfill neither, which needs PHP 8.1: responses wait for the work "
                    "behind it; take it out",
                    all->file, name, fpm->version[0], fpm->version[1]);
    } else if (check_list_has(all->value, name) && !check_prepends(fpm)) {
        check_wrong(check,
                    "disable_functions in %s has %s, and no auto_prepend_file puts another one in "
                    "its place: where the marker cannot be sent, responses wait for their "
                    "callbacks; take it out, or set auto_prepend_file to deferd's polyfill.php",
                    all->file, name);
    }
}

/* --- auto_prepend_file ------------------------------------------------------------------------ */

/* Lets open_basedir PHP read what is in the directory of this file? */
static int check_basedir_has(const char *list, const char *path)
{
    size_t directory = (size_t)(strrchr(path, '/') - path);
    while (*list != '\0') {
        size_t word = strcspn(list, ":");
        size_t len = word;
        while (len > 0 && list[len - 1] == '/') {
            len--;
        }
        if (word > 0 && len <= directory && strncmp(list, path, len) == 0 && path[len] == '/') {
            return 1;
        }
        list += word + strspn(list + word, ":");
    }
    return 0;
}

/* It is deferd's polyfill, and it can be read. Does it work? */
static void check_polyfill(struct check *check)
{
    const struct fpmconf *fpm = check->fpm;
    const struct fpmconf_setting *prepend = &fpm->ini[FPMCONF_AUTO_PREPEND];
    if (check_is_before(fpm, 8, 1)) {
        check_wrong(check,
                    "auto_prepend_file = %s in %s does nothing in PHP %u.%u: deferd's polyfill "
                    "needs PHP 8.1; take it out",
                    prepend->value, prepend->file, fpm->version[0], fpm->version[1]);
    } else if (!check_list_has(fpm->ini[FPMCONF_DISABLED].value, check_finish_name)) {
        check_wrong(check,
                    "auto_prepend_file = %s in %s does nothing as long as PHP's own %s is there: "
                    "set disable_functions = %s in php.ini, for all pools, or take it out",
                    prepend->value, prepend->file, check_finish_name, check_finish_name);
    } else {
        check_note(check,
                   "auto_prepend_file = %s in %s: what unmodified applications do after %s is "
                   "seen, by name",
                   prepend->value, prepend->file, check_finish_name);
    }
}

static void check_prepend(struct check *check)
{
    int error;
    const struct fpmconf *fpm = check->fpm;
    const struct fpmconf_setting *prepend = &fpm->ini[FPMCONF_AUTO_PREPEND];
    const struct fpmconf_setting *basedir = &fpm->ini[FPMCONF_OPEN_BASEDIR];
    if (prepend->value[0] != '/') {
        return; /* none, or to be found in a script's include_path */
    }
    if (basedir->value[0] != '\0' && !check_basedir_has(basedir->value, prepend->value)) {
        check_wrong(check,
                    "auto_prepend_file = %s in %s is outside of open_basedir in %s: requests fail; "
                    "add its folder there",
                    prepend->value, prepend->file, basedir->file);
        return;
    }
    switch (polyfill_look(prepend->value, fpm->user, fpm->group, &error)) {
    case POLYFILL_UNREADABLE:
        check_wrong(check,
                    "auto_prepend_file = %s in %s cannot be read by user %s: %s; every request "
                    "fails; put the file there, or give that user the right to read it and to "
                    "search its folders",
                    prepend->value, prepend->file, fpm->user, strerror(error));
        break;
    case POLYFILL_ALONE:
        check_wrong(check,
                    "auto_prepend_file = %s in %s is deferd's polyfill, without the folder src "
                    "that belongs beside it: requests that call %s fail; install both, or let "
                    "user %s read both",
                    prepend->value, prepend->file, check_finish_name, fpm->user);
        break;
    case POLYFILL_WHOLE:
        check_polyfill(check);
        break;
    case POLYFILL_OTHER:
        break;
    }
}

/* --- what Deferd\Defer calls -------------------------------------------------------------------
 */

static void check_functions(struct check *check)
{
    /* What Deferd\Defer calls, and does not do without. */
    static const char *const needed[] = {
        "error_get_last",
        "error_log",
        "flush",
        "getenv",
        "getmypid",
        "hrtime",
        "ignore_user_abort",
        "json_encode",
        "ob_end_clean",
        "ob_end_flush",
        "ob_flush",
        "ob_get_level",
        "ob_get_status",
        "ob_start",
        "preg_match",
        "preg_replace",
        "register_shutdown_function",
        "session_status",
        "session_write_close",
        "spl_object_id",
    };
    static const enum fpmconf_ini lists[] = {FPMCONF_DISABLED, FPMCONF_DISABLED_POOL};
    check_finish_request(check);
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        const struct fpmconf_setting *list = &check->fpm->ini[lists[i]];
        for (size_t j = 0; j < sizeof(needed) / sizeof(needed[0]); j++) {
            if (check_list_has(list->value, needed[j])) {
                check_wrong(check,
                            "disable_functions in %s has %s, which Deferd\\Defer calls: "
                            "applications that defer fail; take it out",
                            list->file, needed[j]);
            }
        }
    }
}

/* --- the connection --------------------------------------------------------------------------- */

static void check_version(struct check *check, int known, unsigned major, unsigned minor)
{
    if (!check->pool->keepalive) {
        return;
    }
    if (known) {
        check_wrong(check,
                    "PHP %u.%u: its connections cannot be kept, and work after "
                    "fastcgi_finish_request() cannot be seen; take PHP 8.2.13 or later, or set "
                    "upstream.keepalive = no",
                    major, minor);
    } else {
        check_wrong(check,
                    "answers as a PHP before 8.2.13 does: its connections cannot be kept, and "
                    "work after fastcgi_finish_request() cannot be seen; take PHP 8.2.13 or "
                    "later, or set upstream.keepalive = no");
    }
}

static void check_connection(struct check *check)
{
    char err[512];
    const struct global_options *global = &check->config->global;
    const struct fpmconf *fpm = check->fpm;
    unsigned known = fpm != NULL ? fpm->version[0] * 100 + fpm->version[1] : 0;
    if (geteuid() == 0 && global->user[0] == '\0') {
        check_note(check, "user in [global] is not set: started by root, the worker is root too");
    }
    if (known > 0 && known < 802) {
        check_version(check, 1, fpm->version[0], fpm->version[1]);
    }
    switch (
        probe_upstream(&check->upstream->address, global->user, global->group, err, sizeof(err))) {
    case PROBE_OLD:
        if (known == 0 || known >= 802) {
            check_version(check, 0, 0, 0);
        }
        break;
    case PROBE_SILENT:
        check_note(check, "connected, but not answered within a second: are all workers busy?");
        break;
    case PROBE_CLOSED:
        check_wrong(check, "connected, but closed without an answer: is it php-fpm, and does its "
                           "listen.allowed_clients have this host?");
        break;
    case PROBE_FAILED:
        check_wrong(check,
                    "%s%s cannot connect: %s; is php-fpm running, and do its listen, listen.owner, "
                    "listen.group and listen.mode fit?",
                    global->user[0] != '\0' ? "user " : "this user", global->user, err);
        break;
    case PROBE_KEEPS:
        break;
    }
}

/* --- the system ------------------------------------------------------------------------------- */

static void check_somaxconn(struct check *check)
{
    unsigned max = 0;
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "re");
    if (file == NULL || fscanf(file, "%u", &max) != 1) {
        max = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    if (max > 0 && check->pool->listen_backlog > max) {
        check_wrong(check,
                    "listen.backlog = %u, but net.core.somaxconn = %u: the kernel takes the lower "
                    "one; raise that with sysctl, or set listen.backlog lower",
                    check->pool->listen_backlog, max);
    }
}

/* Enough descriptors for all workers and full queues? */
static void check_files(struct check *check)
{
    struct rlimit files;
    uint64_t workers = 0;
    uint64_t clients = 0;
    uint64_t wanted = check->config->global.rlimit_files;
    for (unsigned i = 0; i < check->config->pool_count; i++) {
        unsigned all = pool_options_workers(check->config->pools[i]);
        workers += all;
        clients += all + check->config->pools[i]->queue_max;
    }
    uint64_t needed = worker_files_for(workers, clients);
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return;
    }
    if (wanted > 0 && wanted < needed) {
        check_wrong(check,
                    "rlimit_files = %llu, but %llu workers and full queues need %llu open files: "
                    "web servers are refused before a queue is full; raise it",
                    (unsigned long long)wanted, (unsigned long long)workers,
                    (unsigned long long)needed);
    } else if (wanted == 0 && files.rlim_max < needed) {
        check_wrong(check,
                    "the limit of open files is %llu here, but %llu workers and full queues need "
                    "%llu: web servers are refused before a queue is full; raise it "
                    "(LimitNOFILE in the unit, or rlimit_files if deferd is started by root)",
                    (unsigned long long)files.rlim_max, (unsigned long long)workers,
                    (unsigned long long)needed);
    } else if (wanted > files.rlim_max && geteuid() != 0) {
        check_wrong(check,
                    "rlimit_files = %llu, but the limit is %llu here and only root may raise it: "
                    "raise it where deferd is started (LimitNOFILE in the unit)",
                    (unsigned long long)wanted, (unsigned long long)files.rlim_max);
    }
}

/* --- all of it -------------------------------------------------------------------------------- */

static void (*const check_table[])(struct check *check) = {
    check_workers, check_terminate_timeout, check_control_timeout, check_buffers, check_pm,
    check_backlog, check_functions,         check_prepend,         check_users,
};

/* Adds up what all pools let into the php-fpm at this address. Returns whether this upstream is the
 * first one there. */
static int check_count_workers(struct check *check)
{
    int first = -1; /* not known yet */
    const struct address *address = &check->upstream->address;
    check->workers = 0;
    for (unsigned i = 0; i < check->config->pool_count; i++) {
        const struct pool_options *pool = check->config->pools[i];
        for (unsigned j = 0; j < pool->upstream_count; j++) {
            const struct upstream_options *other = &pool->upstreams[j];
            if (other->address.len == address->len &&
                memcmp(&other->address.sa, &address->sa, address->len) == 0) {
                check->workers += other->max_workers;
                first = first < 0 ? other == check->upstream : first;
            }
        }
    }
    return first;
}

static void check_upstream(struct check *check)
{
    static struct fpmconf fpm;
    if (!check_count_workers(check)) {
        return;
    }
    if (fpmconf_find(&fpm, check->root, &check->upstream->address) == 0) {
        check->fpm = &fpm;
        for (size_t i = 0; i < sizeof(check_table) / sizeof(check_table[0]); i++) {
            check_table[i](check);
        }
    } else {
        check_note(check,
                   "no php-fpm pool below %s listens there: its configuration was not looked at",
                   check->root);
    }
    check_connection(check);
    check->fpm = NULL;
}

int check_run(const struct config *config, const char *root)
{
    struct check check = {.config = config, .root = root};
    check_files(&check);
    for (unsigned i = 0; i < config->pool_count; i++) {
        check.pool = config->pools[i];
        check_somaxconn(&check);
        for (unsigned j = 0; j < check.pool->upstream_count; j++) {
            check.upstream = &check.pool->upstreams[j];
            check_upstream(&check);
        }
        check.upstream = NULL;
    }
    fflush(stdout);
    if (check.wrong == 0) {
        fprintf(stderr, "deferd: nothing is wrong\n");
    } else {
        fprintf(stderr, "deferd: %u wrong\n", check.wrong);
    }
    return check.wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
