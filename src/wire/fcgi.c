#include "deferd/fcgi.h"

#include <string.h>

static size_t fcgi_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t fcgi_read_header(struct fcgi_reader *reader, const uint8_t *data, size_t len,
                               struct fcgi_event *ev)
{
    size_t n = fcgi_min(len, (size_t)(FCGI_HEADER_LEN - reader->have));
    memcpy(reader->header + reader->have, data, n);
    reader->have = (uint8_t)(reader->have + n);

    const uint8_t *h = reader->header;
    if (h[0] != FCGI_VERSION_1) {
        ev->kind = FCGI_EV_VERSION;
        return n;
    }
    if (reader->have < FCGI_HEADER_LEN) {
        ev->kind = FCGI_EV_MORE;
        return n;
    }
    reader->content = (uint16_t)(h[4] << 8 | h[5]);
    reader->padding = h[6];
    reader->in_body = 1;
    ev->kind = FCGI_EV_RECORD;
    return n;
}

size_t fcgi_read(struct fcgi_reader *reader, const uint8_t *data, size_t len, struct fcgi_event *ev)
{
    size_t used = 0;

    if (!reader->in_body) {
        if (len == 0) {
            ev->kind = FCGI_EV_MORE;
            return 0;
        }
        used = fcgi_read_header(reader, data, len, ev);
    } else if (reader->content > 0) {
        used = fcgi_min(len, reader->content);
        reader->content = (uint16_t)(reader->content - used);
        ev->kind = used > 0 ? FCGI_EV_CONTENT : FCGI_EV_MORE;
        ev->data = data;
        ev->len = used;
    } else {
        used = fcgi_min(len, reader->padding);
        reader->padding = (uint8_t)(reader->padding - used);
        ev->kind = reader->padding > 0 ? FCGI_EV_MORE : FCGI_EV_END;
        if (ev->kind == FCGI_EV_END) {
            reader->in_body = 0;
            reader->have = 0;
        }
    }
    ev->type = reader->header[1];
    ev->id = (uint16_t)(reader->header[2] << 8 | reader->header[3]);
    ev->length = (uint16_t)(reader->header[4] << 8 | reader->header[5]);
    return used;
}

int fcgi_reader_idle(const struct fcgi_reader *reader)
{
    return !reader->in_body && reader->have == 0;
}

int fcgi_reader_within(const struct fcgi_reader *reader, uint8_t type, uint16_t id)
{
    const uint8_t *h = reader->header;
    return reader->in_body && reader->content > 0 && h[1] == type && (h[2] << 8 | h[3]) == id;
}

void fcgi_put_header(uint8_t out[FCGI_HEADER_LEN], uint8_t type, uint16_t id, uint16_t length,
                     uint8_t padding)
{
    out[0] = FCGI_VERSION_1;
    out[1] = type;
    out[2] = (uint8_t)(id >> 8);
    out[3] = (uint8_t)id;
    out[4] = (uint8_t)(length >> 8);
    out[5] = (uint8_t)length;
    out[6] = padding;
    out[7] = 0;
}

void fcgi_put_begin(uint8_t out[FCGI_SHORT_RECORD], uint16_t id, uint16_t role, uint8_t flags)
{
    fcgi_put_header(out, FCGI_BEGIN_REQUEST, id, 8, 0);
    memset(out + FCGI_HEADER_LEN, 0, 8);
    out[8] = (uint8_t)(role >> 8);
    out[9] = (uint8_t)role;
    out[10] = flags;
}

void fcgi_put_end(uint8_t out[FCGI_SHORT_RECORD], uint16_t id, uint32_t app_status,
                  uint8_t protocol_status)
{
    fcgi_put_header(out, FCGI_END_REQUEST, id, 8, 0);
    memset(out + FCGI_HEADER_LEN, 0, 8);
    out[8] = (uint8_t)(app_status >> 24);
    out[9] = (uint8_t)(app_status >> 16);
    out[10] = (uint8_t)(app_status >> 8);
    out[11] = (uint8_t)app_status;
    out[12] = protocol_status;
}

void fcgi_put_unknown_type(uint8_t out[FCGI_SHORT_RECORD], uint8_t type)
{
    fcgi_put_header(out, FCGI_UNKNOWN_TYPE, FCGI_NULL_REQUEST_ID, 8, 0);
    memset(out + FCGI_HEADER_LEN, 0, 8);
    out[8] = type;
}

const char *fcgi_type_name(uint8_t type)
{
    static const char *const names[] = {
        [0] = "unknown",
        [FCGI_BEGIN_REQUEST] = "BEGIN_REQUEST",
        [FCGI_ABORT_REQUEST] = "ABORT_REQUEST",
        [FCGI_END_REQUEST] = "END_REQUEST",
        [FCGI_PARAMS] = "PARAMS",
        [FCGI_STDIN] = "STDIN",
        [FCGI_STDOUT] = "STDOUT",
        [FCGI_STDERR] = "STDERR",
        [FCGI_DATA] = "DATA",
        [FCGI_GET_VALUES] = "GET_VALUES",
        [FCGI_GET_VALUES_RESULT] = "GET_VALUES_RESULT",
        [FCGI_UNKNOWN_TYPE] = "UNKNOWN_TYPE",
    };
    return type < sizeof(names) / sizeof(names[0]) ? names[type] : "unknown";
}
