/*
 * Happy path: a child process drops its privileges and reads the file's first lines; its exit
 * status is the result. Failure modes: one that cannot read it exits with POLYFILL_UNREADABLE plus
 * the errno; a child that dies counts as one that may not.
 */
#include "deferd/polyfill.h"

#include "deferd/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The class that the polyfill's function calls first, beside it. */
#define POLYFILL_CLASS "/src/Polyfill.php"

/* In the child. Returns its exit status. */
static int polyfill_run(const char *path)
{
    char head[512];
    char class[4352];
    const char *slash = strrchr(path, '/');
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, head, sizeof(head)) : -1;
    if (n < 0) {
        return POLYFILL_UNREADABLE + errno;
    }
    if (memmem(head, (size_t)n, POLYFILL_MARK, strlen(POLYFILL_MARK)) == NULL) {
        return POLYFILL_OTHER;
    }
    snprintf(class, sizeof(class), "%.*s%s", (int)(slash - path), path, POLYFILL_CLASS);
    return access(class, R_OK) == 0 ? POLYFILL_WHOLE : POLYFILL_ALONE;
}

enum polyfill_kind polyfill_look(const char *path, const char *user, const char *group, int *error)
{
    char why[256];
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        int dropped = privileges_drop(user, group, why, sizeof(why)) == 0;
        _exit(dropped ? polyfill_run(path) : POLYFILL_UNREADABLE + EPERM);
    }
    *error = EPERM;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
        return POLYFILL_UNREADABLE;
    }
    if (WEXITSTATUS(status) < POLYFILL_UNREADABLE) {
        return (enum polyfill_kind)WEXITSTATUS(status);
    }
    *error = WEXITSTATUS(status) - POLYFILL_UNREADABLE;
    return POLYFILL_UNREADABLE;
}
