/*
 * php-fpm's processes: its master, by its pid file or its socket, and its workers.
 */
#ifndef DEFERD_FPM_H
#define DEFERD_FPM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct address;

/* Which instance of php-fpm it is: each one, also after a reload, writes its pid file anew. */
struct fpm_instance {
    dev_t dev;
    ino_t ino;
    struct timespec written;
};

/* Returns 0, or -1 if there is no such file. */
int fpm_instance_of(const char *pid_file, struct fpm_instance *out);

int fpm_same_instance(const struct fpm_instance *a, const struct fpm_instance *b);

/* A process, as /proc shows it. */
struct fpm_process {
    char name[32];
    pid_t parent;
    uid_t owner;      /* root too if it has changed its user */
    uint64_t started; /* in ticks since the system's; with the pid it names the process for good */
};

/* Returns 0, or -1 if it is gone. */
int fpm_process_read(pid_t pid, struct fpm_process *out);

/* Has it the name of a php-fpm? */
int fpm_process_is_fpm(const struct fpm_process *process);

/* The process that listens at the other end of a connected unix socket; 0 if that is not known. */
pid_t fpm_listener(int fd);

/* For somebody who may be lying: ends a process (SIGTERM), if it is the one that began then, and a
 * worker of the php-fpm that listens at this unix socket; at a TCP address, of the one that the pid
 * file names, as below. Returns 0, or -1 with a sentence in err. */
int fpm_end_worker(const struct address *address, const char *pid_file, pid_t pid, uint64_t started,
                   char *err, size_t err_size);

/* Has it reload (SIGUSR2), if the file is no link and names a php-fpm, of the user that the file
 * belongs to if that is not root. Returns 0, or -1 with a sentence in err. */
int fpm_signal_reload(const char *pid_file, char *err, size_t err_size);

#endif
