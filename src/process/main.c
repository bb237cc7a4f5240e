/*
 * deferd: with a configuration file a master that runs workers, with flags a worker on its own.
 */
#include "deferd/check.h"
#include "deferd/log.h"
#include "deferd/master.h"
#include "deferd/options.h"
#include "deferd/worker.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

/* A socket must never get the number of a standard stream: the log would be written into it. */
static int main_fill_standard_streams(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0) {
        return -1;
    }
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    static struct options options;
    if (main_fill_standard_streams() != 0) {
        return EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN); /* whoever reads the log may go */
    argv = uv_setup_args(argc, argv);
    enum options_result result = options_parse(&options, argc, argv);
    if (result != OPTIONS_RUN) {
        config_free(&options.config);
        return result == OPTIONS_DONE ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    if (options.check) {
        int status = check_run(&options.config, options.fpm_root);
        config_free(&options.config);
        return status;
    }
    log_open(STDERR_FILENO, options.config.global.log_level);
    if (options.worker || options.file[0] == '\0') {
        return worker_run(&options, options.worker);
    }
    return master_run(&options, argv);
}
