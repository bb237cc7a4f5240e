/*
 * FastCGI records: a reader that turns bytes into events, and the encoders of the records deferd
 * writes. Pure: no I/O, no clock, no allocation.
 *
 * Terms and constants are those of the FastCGI specification 1.0; the numbers come from libfcgi's
 * fastcgi.h. Sections below ("spec 3.3") are that specification's.
 */
#ifndef DEFERD_FCGI_H
#define DEFERD_FCGI_H

#include <fastcgi.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a whole BEGIN_REQUEST, END_REQUEST or UNKNOWN_TYPE record: header and 8 bytes of body.
 */
#define FCGI_SHORT_RECORD (FCGI_HEADER_LEN + 8)

/* The id deferd gives its requests towards FPM; one request at a time on a connection, as nginx
 * does it (fact 18). */
#define FCGI_UPSTREAM_ID 1

enum fcgi_event_kind {
    FCGI_EV_MORE,    /* all input is consumed; feed the next bytes */
    FCGI_EV_RECORD,  /* a header is complete: type, id and length are set */
    FCGI_EV_CONTENT, /* a part of the current record's content: data and len are set */
    FCGI_EV_END,     /* the current record, padding included, is complete */
    FCGI_EV_VERSION, /* not FCGI_VERSION_1: the stream cannot be understood from here on */
};

struct fcgi_event {
    enum fcgi_event_kind kind;
    uint8_t type;        /* FCGI_BEGIN_REQUEST … */
    uint16_t id;         /* request id, 0 for management records */
    uint16_t length;     /* contentLength of the record */
    const uint8_t *data; /* FCGI_EV_CONTENT: points into the caller's input */
    size_t len;          /* FCGI_EV_CONTENT: bytes at data, at least 1 */
};

/* Where a reader stands within a record. Zeroed, it waits for a record's first byte. */
struct fcgi_reader {
    uint8_t header[FCGI_HEADER_LEN];
    uint8_t have;     /* bytes of the header collected so far */
    uint8_t in_body;  /* the header is complete and announced */
    uint8_t padding;  /* bytes of padding still to come */
    uint16_t content; /* bytes of content still to come */
};

/* Consumes input up to the next event and describes it in *ev. Returns the bytes consumed, which
 * may be 0 for an FCGI_EV_END. Call again with the rest until the event is FCGI_EV_MORE. After
 * FCGI_EV_VERSION the reader must not be used again. */
size_t fcgi_read(struct fcgi_reader *reader, const uint8_t *data, size_t len,
                 struct fcgi_event *ev);

/* Is the reader between two records? */
int fcgi_reader_idle(const struct fcgi_reader *reader);

/* Is content of such a record what it waits for? */
int fcgi_reader_within(const struct fcgi_reader *reader, uint8_t type, uint16_t id);

/* Each writes one record, or its header alone, at out. */
void fcgi_put_header(uint8_t out[FCGI_HEADER_LEN], uint8_t type, uint16_t id, uint16_t length,
                     uint8_t padding);
void fcgi_put_begin(uint8_t out[FCGI_SHORT_RECORD], uint16_t id, uint16_t role, uint8_t flags);
void fcgi_put_end(uint8_t out[FCGI_SHORT_RECORD], uint16_t id, uint32_t app_status,
                  uint8_t protocol_status);
void fcgi_put_unknown_type(uint8_t out[FCGI_SHORT_RECORD], uint8_t type);

/* "STDOUT", "END_REQUEST", … or "unknown", for logs. */
const char *fcgi_type_name(uint8_t type);

#endif
