/*
 * Listening sockets by name: made or taken over by the master, handed to its workers.
 */
#ifndef DEFERD_SOCKETS_H
#define DEFERD_SOCKETS_H

#include "deferd/address.h"
#include "deferd/config.h"

/* What a configuration can listen on, and what two of them can between which a reload changes. */
#define SOCKETS_LIST_MAX (CONFIG_POOLS_MAX + 8)
#define SOCKETS_MAX      (2 * SOCKETS_LIST_MAX)

/* Where a worker finds what its master gives it: the channel, the configuration, both ends of the
 * handoff, and from there on the sockets, in the order of sockets_of_config. */
#define SOCKETS_CHANNEL       3
#define SOCKETS_CONFIG        4
#define SOCKETS_HANDOFF_READ  5
#define SOCKETS_HANDOFF_WRITE 6
#define SOCKETS_FIRST_FD      7

/* Who may connect to a unix socket. */
struct socket_rights {
    uid_t uid; /* -1: who starts deferd */
    gid_t gid;
    mode_t mode;
};

struct socket_entry {
    struct listener listener;
    struct address asked;        /* as the configuration has it: the port may be 0 */
    struct socket_rights rights; /* as it has them */
    struct socket_rights coming; /* and as the one that is being applied does */
    int known;                   /* rights are; not of what another process has made */
    int wanted;                  /* by the configuration that is being applied */
    int gone;                    /* its file is, and another one is made for that configuration */
    int made;                    /* for that configuration: it goes again if that fails */
};

struct sockets {
    struct socket_entry entries[SOCKETS_MAX];
    unsigned count;
    int handoff[2]; /* handoff_make; 0 before */
};

/* How a socket is made. */
struct socket_spec {
    const char *owner; /* names; empty leaves as it is */
    const char *group;
    struct address address;
    mode_t mode;
    unsigned backlog;
};

/* What a configuration listens on, in the order in which workers get it: the pools' sockets first,
 * then those of SOCKETS_…. Fills at most SOCKETS_LIST_MAX of out, whose texts stay the
 * configuration's; one that is not configured has an address of length 0. Returns how many. */
unsigned sockets_of_config(const struct config *config, struct socket_spec *out);

/* Places in that list, behind the pools. */
enum sockets_extra {
    SOCKETS_CONTROL,
    SOCKETS_READONLY,
    SOCKETS_METRICS,
    SOCKETS_EXTRA_COUNT,
};

/* Makes one that listens. Returns 0, or -1 with a sentence in err. */
int sockets_make(struct listener *listener, const struct socket_spec *spec, char *err,
                 size_t err_size);

/* Takes over the listening sockets that systemd passes (sd_listen_fds(3)). */
void sockets_take_systemd(struct sockets *sockets);

/* Has a socket for each that the configuration wants: one that is there, or a new one, also if the
 * file of the one that is there was deleted. Neither is final before sockets_commit. Returns 0, or
 * -1 with a sentence in err; then sockets_undo is to follow. */
int sockets_want_all(struct sockets *sockets, const struct config *config, char *err,
                     size_t err_size);

/* Closes those that were made by sockets_want_all; the others stay, as before it. */
void sockets_undo(struct sockets *sockets);

/* Closes those that are not wanted, and removes their files; those that stay get the rights that
 * are wanted now. */
void sockets_commit(struct sockets *sockets);

/* The one that listens at this address, or NULL. */
struct socket_entry *sockets_find(struct sockets *sockets, const struct address *address);

/* Closes all and removes their files. */
void sockets_close(struct sockets *sockets);

#endif
