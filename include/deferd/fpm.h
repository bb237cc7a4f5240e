/*
 * php-fpm's master process, by its pid file.
 */
#ifndef DEFERD_FPM_H
#define DEFERD_FPM_H

#include <stddef.h>
#include <sys/types.h>
#include <time.h>

/* Which instance of php-fpm it is: each one, also after a reload, writes its pid file anew. */
struct fpm_instance {
    dev_t dev;
    ino_t ino;
    struct timespec written;
};

/* Returns 0, or -1 if there is no such file. */
int fpm_instance_of(const char *pid_file, struct fpm_instance *out);

int fpm_same_instance(const struct fpm_instance *a, const struct fpm_instance *b);

/* Has it reload (SIGUSR2), if the file names a php-fpm. Returns 0, or -1 with a sentence in err. */
int fpm_signal_reload(const char *pid_file, char *err, size_t err_size);

#endif
