/*
 * What a web server's records mean for its connection: those of a request, in the order that the
 * specification demands (6.2), and management records.
 */
#ifndef DEFERD_INTAKE_H
#define DEFERD_INTAKE_H

#include "deferd/client.h"
#include "deferd/fcgi.h"
#include "deferd/stream.h"

/* Acts on one event of the client's reader; afterwards the client may be closing, or finishing.
 * What is to go upstream at once is collected in up. */
void intake_event(struct client *client, const struct fcgi_event *ev, struct gather *up);

#endif
