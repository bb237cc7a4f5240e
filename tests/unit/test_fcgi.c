/*
 * The record reader and the record encoders.
 */
#include "check.h"
#include "deferd/fcgi.h"

#define RECORDS_MAX 16
#define STREAM_MAX  (RECORDS_MAX * (FCGI_HEADER_LEN + 256 + 256) + 65535)

struct record {
    uint8_t type;
    uint16_t id;
    uint16_t length;
    uint8_t padding;
    uint8_t version;
    size_t from; /* where its content is in the stream */
    size_t end;  /* where it ends */
};

/* A stream of records, and what the reader is expected to find in it. */
struct sent {
    struct record records[RECORDS_MAX];
    size_t count;
    uint8_t *bytes;
    size_t len;
};

static void sent_open(struct sent *sent)
{
    *sent = (struct sent){.bytes = malloc(STREAM_MAX)};
    assert_non_null(sent->bytes);
}

static void sent_close(struct sent *sent)
{
    free(sent->bytes);
}

static void sent_add(struct sent *sent, uint8_t version, uint8_t type, uint16_t id, size_t length,
                     size_t padding)
{
    const uint8_t header[] = {version,
                              type,
                              (uint8_t)(id >> 8),
                              (uint8_t)id,
                              (uint8_t)(length >> 8),
                              (uint8_t)length,
                              (uint8_t)padding,
                              0xee}; /* reserved: to be ignored */
    assert_true(sent->count < RECORDS_MAX);
    assert_true(sent->len + sizeof(header) + length + padding <= STREAM_MAX);
    struct record *record = &sent->records[sent->count++];
    memcpy(sent->bytes + sent->len, header, sizeof(header));
    sent->len += sizeof(header);
    *record = (struct record){.type = type, .id = id, .version = version, .from = sent->len};
    record->length = (uint16_t)length;
    record->padding = (uint8_t)padding;
    for (size_t i = 0; i < length; i++) {
        sent->bytes[sent->len++] = (uint8_t)(i * 31 + length);
    }
    memset(sent->bytes + sent->len, 0x01, padding); /* as if headers stood there */
    sent->len += padding;
    record->end = sent->len;
}

/* What was read so far of a sent stream. */
struct seen {
    const struct sent *sent;
    size_t records; /* headers announced */
    size_t ended;
    size_t content; /* bytes of the current record's content */
    int broken;     /* the version was wrong */
};

static void seen_event(struct seen *seen, const struct fcgi_event *ev, const uint8_t *piece,
                       size_t used, const struct check_cuts *cuts)
{
    const struct sent *sent = seen->sent;
    const struct record *now = seen->records > 0 ? &sent->records[seen->records - 1] : NULL;
    switch (ev->kind) {
    case FCGI_EV_MORE:
        return;
    case FCGI_EV_RECORD:
        check_that(seen->ended == seen->records && seen->records < sent->count, cuts);
        now = &sent->records[seen->records++];
        seen->content = 0;
        check_that(now->version == FCGI_VERSION_1, cuts);
        break;
    case FCGI_EV_CONTENT:
        check_that(now != NULL && seen->ended < seen->records, cuts);
        check_that(ev->len > 0 && ev->data >= piece && ev->data + ev->len <= piece + used, cuts);
        check_that(seen->content + ev->len <= now->length, cuts);
        check_that(memcmp(ev->data, sent->bytes + now->from + seen->content, ev->len) == 0, cuts);
        seen->content += ev->len;
        break;
    case FCGI_EV_END:
        check_that(now != NULL && seen->ended + 1 == seen->records, cuts);
        check_that(seen->content == now->length, cuts);
        seen->ended++;
        break;
    case FCGI_EV_VERSION:
        check_that(seen->ended == seen->records, cuts);
        check_that(sent->records[seen->records].version != FCGI_VERSION_1, cuts);
        seen->broken = 1;
        return;
    }
    check_that(ev->type == now->type && ev->id == now->id && ev->length == now->length, cuts);
}

/* Where a record's header begins. */
static size_t sent_begin(const struct sent *sent, size_t record)
{
    return record > 0 ? sent->records[record - 1].end : 0;
}

/* Reads one piece to its end. Returns -1 if the stream is broken. */
static int seen_read(struct seen *seen, struct fcgi_reader *reader, const uint8_t *piece,
                     size_t len, const struct check_cuts *cuts)
{
    struct fcgi_event ev;
    size_t at = 0;
    do {
        size_t used = fcgi_read(reader, piece + at, len - at, &ev);
        check_that(used <= len - at, cuts);
        seen_event(seen, &ev, piece + at, used, cuts);
        if (seen->broken) {
            return -1;
        }
        at += used;
        check_that(ev.kind != FCGI_EV_MORE || at == len, cuts);
    } while (ev.kind != FCGI_EV_MORE);
    check_that(fcgi_read(reader, piece, 0, &ev) == 0 && ev.kind == FCGI_EV_MORE, cuts);
    return 0;
}

/* Reads all of a sent stream, by these cuts, and checks after each piece that exactly what can be
 * known is known. */
static void read_sent(const void *arg, struct check_cuts cuts)
{
    const struct sent *sent = arg;
    struct fcgi_reader reader = {0};
    struct seen seen = {.sent = sent};
    size_t done = 0;
    while (done < sent->len) {
        size_t len = check_piece(&cuts, done, sent->len);
        uint8_t *piece = check_copy(sent->bytes + done, len);
        int rc = seen_read(&seen, &reader, piece, len, &cuts);
        free(piece);
        if (rc != 0) {
            /* Told with the byte that shows it. */
            check_that(done <= sent_begin(sent, seen.records), &cuts);
            check_that(done + len > sent_begin(sent, seen.records), &cuts);
            return;
        }
        done += len;
        size_t whole = 0;
        while (whole < sent->count && sent->records[whole].end <= done) {
            whole++;
        }
        check_that(seen.ended == whole, &cuts);
        check_that(fcgi_reader_idle(&reader) == (sent_begin(sent, whole) == done), &cuts);
    }
    check_that(seen.ended == sent->count, &cuts);
    check_that(sent->records[sent->count - 1].version == FCGI_VERSION_1, &cuts);
}

static void read_one(uint8_t type, uint16_t id, size_t length, size_t padding, int every_cut)
{
    struct sent sent;
    sent_open(&sent);
    sent_add(&sent, 1, type, id, length, padding);
    if (every_cut) {
        check_all_cuts(read_sent, &sent, sent.len);
    } else {
        read_sent(&sent, (struct check_cuts){.way = CHECK_WHOLE});
        read_sent(&sent, (struct check_cuts){.way = CHECK_SINGLE});
    }
    sent_close(&sent);
}

static void every_type_is_read(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        read_one((uint8_t)type, 1, 9, 3, 1);
    }
}

static void every_kind_of_id_is_read(void **state)
{
    static const uint16_t ids[] = {0, 1, 255, 256, 0x1234, 65535};
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(ids); i++) {
        read_one(FCGI_STDOUT, ids[i], 1, 0, 1);
    }
}

static void every_padding_is_skipped(void **state)
{
    static const size_t lengths[] = {0, 1, 7, 8, 255, 256};
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(lengths); i++) {
        for (size_t padding = 0; padding < 256; padding++) {
            read_one(FCGI_STDOUT, 1, lengths[i], padding, 0);
        }
        read_one(FCGI_STDOUT, 1, lengths[i], 0, 1);
        read_one(FCGI_STDOUT, 1, lengths[i], 255, 1);
    }
}

static void the_longest_record_is_read(void **state)
{
    static const size_t paddings[] = {0, 1, 7, 255};
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(paddings); i++) {
        struct sent sent;
        sent_open(&sent);
        sent_add(&sent, 1, FCGI_STDIN, 1, 65535, paddings[i]);
        sent_add(&sent, 1, FCGI_STDIN, 1, 0, 0);
        read_sent(&sent, (struct check_cuts){.way = CHECK_WHOLE});
        read_sent(&sent, (struct check_cuts){.way = CHECK_SINGLE});
        for (size_t at = 1; at < 20; at++) {
            read_sent(&sent, (struct check_cuts){.way = CHECK_SPLIT, .at = at});
        }
        for (size_t at = 65535; at < sent.len; at++) {
            read_sent(&sent, (struct check_cuts){.way = CHECK_SPLIT, .at = at});
        }
        for (uint64_t seed = 0; seed < 20; seed++) {
            read_sent(&sent, (struct check_cuts){.way = CHECK_RANDOM, .seed = seed});
        }
        sent_close(&sent);
    }
}

static void records_follow_one_another(void **state)
{
    struct sent sent;
    (void)state;
    sent_open(&sent);
    sent_add(&sent, 1, FCGI_BEGIN_REQUEST, 1, 8, 0);
    sent_add(&sent, 1, FCGI_PARAMS, 1, 21, 3);
    sent_add(&sent, 1, FCGI_PARAMS, 1, 0, 0);
    sent_add(&sent, 1, FCGI_STDIN, 1, 0, 8); /* padding alone */
    sent_add(&sent, 1, FCGI_STDIN, 1, 0, 0);
    sent_add(&sent, 1, FCGI_GET_VALUES, 0, 17, 7);
    sent_add(&sent, 1, FCGI_ABORT_REQUEST, 1, 0, 0);
    sent_add(&sent, 1, FCGI_END_REQUEST, 1, 8, 0);
    check_all_cuts(read_sent, &sent, sent.len);
    for (uint64_t seed = 0; seed < 1000; seed++) {
        read_sent(&sent, (struct check_cuts){.way = CHECK_RANDOM, .seed = seed});
    }
    sent_close(&sent);
}

static void random_streams_are_read_by_random_cuts(void **state)
{
    uint64_t seed = 1;
    (void)state;
    for (int round = 0; round < 500; round++) {
        struct sent sent;
        sent_open(&sent);
        size_t count = 1 + check_below(&seed, RECORDS_MAX - 1);
        for (size_t i = 0; i < count; i++) {
            size_t length = check_below(&seed, 3) > 0 ? check_below(&seed, 257) : 0;
            size_t padding = check_below(&seed, 2) > 0 ? check_below(&seed, 256) : 0;
            sent_add(&sent, 1, (uint8_t)check_random(&seed), (uint16_t)check_random(&seed), length,
                     padding);
        }
        read_sent(&sent, (struct check_cuts){.way = CHECK_RANDOM, .seed = check_random(&seed)});
        sent_close(&sent);
    }
}

static void another_version_breaks_the_stream_at_any_record(void **state)
{
    (void)state;
    for (unsigned version = 0; version < 256; version++) {
        for (size_t before = 0; version != 1 && before < 3; before++) {
            struct sent sent;
            sent_open(&sent);
            for (size_t i = 0; i < before; i++) {
                sent_add(&sent, 1, FCGI_STDOUT, 1, i * 5, i);
            }
            sent_add(&sent, (uint8_t)version, FCGI_STDOUT, 1, 3, 2);
            sent_add(&sent, 1, FCGI_STDOUT, 1, 3, 2);
            check_all_cuts(read_sent, &sent, sent.len);
            sent_close(&sent);
        }
    }
}

static void a_header_cut_off_announces_nothing(void **state)
{
    static const uint8_t header[FCGI_HEADER_LEN] = {1, FCGI_STDOUT, 0, 1, 0, 5, 0, 0};
    (void)state;
    for (size_t len = 1; len < sizeof(header); len++) {
        struct fcgi_reader reader = {0};
        struct fcgi_event ev;
        uint8_t *piece = check_copy(header, len);
        assert_int_equal(fcgi_read(&reader, piece, len, &ev), len);
        assert_int_equal(ev.kind, FCGI_EV_MORE);
        assert_false(fcgi_reader_idle(&reader));
        free(piece);
    }
}

static void a_reader_without_input_is_idle(void **state)
{
    struct fcgi_reader reader = {0};
    struct fcgi_event ev;
    (void)state;
    assert_true(fcgi_reader_idle(&reader));
    assert_int_equal(fcgi_read(&reader, (const uint8_t *)"", 0, &ev), 0);
    assert_int_equal(ev.kind, FCGI_EV_MORE);
    assert_true(fcgi_reader_idle(&reader));
}

static void encoded_records_have_the_specified_bytes(void **state)
{
    static const uint8_t header[] = {1, 6, 0x12, 0x34, 0xab, 0xcd, 0xef, 0};
    static const uint8_t begin[] = {1, 1, 0x12, 0x34, 0, 8, 0, 0, 0x56, 0x78, 0x9a, 0, 0, 0, 0, 0};
    static const uint8_t end[] = {1,    3,    0x12, 0x34, 0,    8, 0, 0,
                                  0xde, 0xad, 0xbe, 0xef, 0xfe, 0, 0, 0};
    static const uint8_t unknown[] = {1, 11, 0, 0, 0, 8, 0, 0, 0xc8, 0, 0, 0, 0, 0, 0, 0};
    uint8_t *out = malloc(FCGI_SHORT_RECORD);
    (void)state;
    assert_non_null(out);
    memset(out, 0xff, FCGI_SHORT_RECORD);
    fcgi_put_header(out, 6, 0x1234, 0xabcd, 0xef);
    assert_memory_equal(out, header, sizeof(header));
    assert_int_equal(out[FCGI_HEADER_LEN], 0xff);
    memset(out, 0xff, FCGI_SHORT_RECORD);
    fcgi_put_begin(out, 0x1234, 0x5678, 0x9a);
    assert_memory_equal(out, begin, sizeof(begin));
    memset(out, 0xff, FCGI_SHORT_RECORD);
    fcgi_put_end(out, 0x1234, 0xdeadbeef, 0xfe);
    assert_memory_equal(out, end, sizeof(end));
    memset(out, 0xff, FCGI_SHORT_RECORD);
    fcgi_put_unknown_type(out, 0xc8);
    assert_memory_equal(out, unknown, sizeof(unknown));
    free(out);
}

static void encoded_headers_are_read_back(void **state)
{
    uint64_t seed = 2;
    (void)state;
    for (int i = 0; i < 10000; i++) {
        uint8_t header[FCGI_HEADER_LEN];
        struct fcgi_reader reader = {0};
        struct fcgi_event ev;
        uint8_t type = (uint8_t)check_random(&seed);
        uint16_t id = (uint16_t)check_random(&seed);
        uint16_t length = (uint16_t)check_random(&seed);
        uint8_t padding = (uint8_t)check_random(&seed);
        fcgi_put_header(header, type, id, length, padding);
        assert_int_equal(fcgi_read(&reader, header, sizeof(header), &ev), sizeof(header));
        assert_int_equal(ev.kind, FCGI_EV_RECORD);
        assert_int_equal(ev.type, type);
        assert_int_equal(ev.id, id);
        assert_int_equal(ev.length, length);
        assert_int_equal(reader.padding, padding);
    }
}

static void types_have_the_specified_names(void **state)
{
    static const char *const names[] = {
        "unknown",
        "BEGIN_REQUEST",
        "ABORT_REQUEST",
        "END_REQUEST",
        "PARAMS",
        "STDIN",
        "STDOUT",
        "STDERR",
        "DATA",
        "GET_VALUES",
        "GET_VALUES_RESULT",
        "UNKNOWN_TYPE",
    };
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        const char *name = type < CHECK_COUNT(names) ? names[type] : "unknown";
        assert_string_equal(fcgi_type_name((uint8_t)type), name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(every_kind_of_id_is_read),
        cmocka_unit_test(every_padding_is_skipped),
        cmocka_unit_test(the_longest_record_is_read),
        cmocka_unit_test(records_follow_one_another),
        cmocka_unit_test(random_streams_are_read_by_random_cuts),
        cmocka_unit_test(another_version_breaks_the_stream_at_any_record),
        cmocka_unit_test(a_header_cut_off_announces_nothing),
        cmocka_unit_test(a_reader_without_input_is_idle),
        cmocka_unit_test(encoded_records_have_the_specified_bytes),
        cmocka_unit_test(encoded_headers_are_read_back),
        cmocka_unit_test(types_have_the_specified_names),
    };
    return cmocka_run_group_tests_name("fcgi", tests, NULL, NULL);
}
