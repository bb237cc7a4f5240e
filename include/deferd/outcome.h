/*
 * How a request ended: one list, from which log, metrics and control take the names.
 */
#ifndef DEFERD_OUTCOME_H
#define DEFERD_OUTCOME_H

/* X(enumerator, name, meaning) */
#define OUTCOMES(X)                                                                                \
    X(OUTCOME_ANSWERED, "answered", "the application's own answer, without a marker")              \
    X(OUTCOME_CLIENT_GONE, "client_gone", "the web server closed or aborted it")                   \
    X(OUTCOME_UPSTREAM_FAILED, "upstream_failed", "php-fpm could not be reached, or broke off")    \
    X(OUTCOME_REJECTED, "rejected", "refused without asking php-fpm")                              \
    X(OUTCOME_QUEUE_FULL, "queue_full", "answered 503: too many waited")                           \
    X(OUTCOME_QUEUE_TIMEOUT, "queue_timeout", "answered 503: it waited too long")                  \
    X(OUTCOME_COMPLETED, "completed", "all callbacks accounted for, none failed")                  \
    X(OUTCOME_FAILED, "failed", "all callbacks accounted for, at least one failed")                \
    X(OUTCOME_LOST, "lost", "the worker died or left before its callbacks were done")              \
    X(OUTCOME_STOPPED, "stopped", "an operator stopped it")                                        \
    X(OUTCOME_TIMEOUT, "timeout", "its deferred phase took longer than defer.timeout")             \
    X(OUTCOME_UNREPORTED, "unreported", "a deferred phase without a report")

#define OUTCOME_ENUMERATOR(enumerator, name, meaning) enumerator,

enum outcome { OUTCOMES(OUTCOME_ENUMERATOR) OUTCOME_COUNT };

const char *outcome_name(enum outcome outcome);

/* Is it one that somebody should look at? */
int outcome_is_failure(enum outcome outcome);

#endif
