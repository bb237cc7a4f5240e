/*
 * Where the lines of a log go: a file, somebody's descriptor, or syslog. Lines are collected, up to
 * a bound, and written together; whoever reads them is never waited for.
 *
 * Failure modes: the reader is slow, then the lines stay until the next flush; there is no room for
 * more, or they cannot be written at all, then they are dropped and counted.
 */
#ifndef DEFERD_SINK_H
#define DEFERD_SINK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The longest line, its LF included. PIPE_BUF, so that a pipe takes it in one piece. */
#define SINK_LINE_MAX 4096

/* What may wait to be written. */
#define SINK_BUFFER (16 * SINK_LINE_MAX)

enum sink_kind {
    SINK_FILE,     /* takes everything at once, or fails */
    SINK_PIPE,     /* or FIFO, or terminal: opened anew, so that it does not block */
    SINK_BLOCKING, /* the same, where that is not allowed: asked each time */
    SINK_STREAM,   /* a socket, such as the journal's */
    SINK_SYSLOG,   /* a datagram a line, its LF left away */
};

struct sink_target {
    enum sink_kind kind;
    int fd;
    int owned;      /* fd is the sink's to close */
    char path[256]; /* of a file or syslog's socket; empty if it is somebody's descriptor */
    uid_t uid;      /* a file's owner, -1: as it is */
    gid_t gid;
};

/* With to.fd -1 and all else zeroed, it goes nowhere. */
struct sink {
    struct sink_target to;
    int failing;      /* the last write failed for another reason than a slow reader */
    int torn;         /* the buffer begins with an LF for a line of which a part was written */
    uint64_t dropped; /* lines, since sink_dropped */
    size_t used;
    char buffer[SINK_BUFFER];
};

/* Goes on at a descriptor, which stays the caller's. */
void sink_use(struct sink *sink, int fd);

/* Goes on in a file, which is made if it is not there, with mode 0640 and this owner (-1: as it
 * is). /dev/stdout, /dev/stderr and their names below /proc are this process's streams. Returns 0
 * or -errno, then nothing has changed. */
int sink_open(struct sink *sink, const char *path, uid_t uid, gid_t gid);

/* Goes on to the socket where a syslog daemon listens, now or later. Returns 0 or -errno, then
 * nothing has changed. */
int sink_open_syslog(struct sink *sink, const char *path);

/* Opens sink_open's file again, which was moved away. Returns 0 or -errno, then the sink goes on in
 * the old one. */
int sink_reopen(struct sink *sink);

/* Makes a file, or gives an existing one its owner, for a process that could not. Returns 0 or
 * -errno. */
int sink_make_file(const char *path, uid_t uid, gid_t gid);

/* Room for one line, SINK_LINE_MAX bytes; NULL if there is none, then the line is counted. */
char *sink_room(struct sink *sink);

/* A line of len bytes, its LF included, was written to sink_room's room. */
void sink_put(struct sink *sink, size_t len);

/* Writes what can be written at once. Returns how many bytes have to wait. */
size_t sink_flush(struct sink *sink);

/* How many lines were dropped since the last call; 0 while there is no saying whether that is all.
 */
uint64_t sink_dropped(struct sink *sink);

/* Gives a slow reader a last moment, and closes. */
void sink_close(struct sink *sink);

#endif
