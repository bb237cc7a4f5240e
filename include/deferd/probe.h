/*
 * A connection to an upstream, made to see what is at its other end.
 */
#ifndef DEFERD_PROBE_H
#define DEFERD_PROBE_H

#include "deferd/address.h"

enum probe_result {
    PROBE_KEEPS,  /* a php-fpm whose connections can be kept (fact 9) */
    PROBE_OLD,    /* one whose connections cannot be: older than 8.2.13 */
    PROBE_SILENT, /* connected, and no answer came in time */
    PROBE_CLOSED, /* connected, and closed without an answer */
    PROBE_FAILED, /* not connected: see err */
};

/* Connects as this user and group, if the process is root and they are not empty, and asks twice
 * for FCGI_GET_VALUES. Takes up to about two seconds. */
enum probe_result probe_upstream(const struct address *address, const char *user, const char *group,
                                 char *err, size_t err_size);

#endif
