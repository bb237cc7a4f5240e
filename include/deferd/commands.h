/*
 * The commands of the control socket, one list for both of its ends.
 */
#ifndef DEFERD_COMMANDS_H
#define DEFERD_COMMANDS_H

/* X(name, function's name, arguments, right to READ or CHANGE, fewest and most arguments, help) */
#define COMMANDS(X)                                                                                \
    X("status", status, "", READ, 0, 0, "the process as a whole")                                  \
    X("pools", pools, "", READ, 0, 0, "the pools, their upstreams and classes")                    \
    X("list", list, "[--all|--running|--stopped|--completed|--failed|--lost]...", READ, 0, 6,      \
      "deferred phases: those that run, or those of the last 1000 that ended so")                  \
    X("show", show, "ID", READ, 1, 1, "all that is known of one deferred phase")                   \
    X("stop", stop, "[--force] ID", CHANGE, 1, 2,                                                  \
      "have a deferred phase skip what has not started; by force: end its worker")                 \
    X("pause", pause, "POOL", CHANGE, 1, 1, "have a pool's requests wait")                         \
    X("resume", resume, "POOL", CHANGE, 1, 1, "let them go on")                                    \
    X("drain", drain, "POOL", CHANGE, 1, 1, "pause, and wait until nothing runs or is deferred")   \
    X("reload", ask, "", CHANGE, 0, 0, "read the configuration again")                             \
    X("upgrade", ask, "", CHANGE, 0, 0, "go on as the binary that is installed now")               \
    X("fpm-reload", fpm_reload, "[POOL]", CHANGE, 0, 1, "reload php-fpm while requests wait")      \
    X("quit", ask, "", CHANGE, 0, 0, "end when all requests have")                                 \
    X("help", help, "", READ, 0, 0, "the commands")

#endif
