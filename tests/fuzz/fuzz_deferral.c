/*
 * A deferred phase: fed in any pieces it comes to the same as fed whole, and its counts add up. So
 * that the fuzzer gets there, bytes from 0x80 on stand for parts of reports, some of them repeated.
 */
#include "deferd/deferral.h"
#include "fuzz.h"

#define STREAM_MAX 65536
#define REPEAT     600 /* more than DEFERRAL_TASKS_MAX */

static const struct part {
    const char *text;
    size_t times;
} parts[] = {
    {"\n", 1},
    {"{\"event\":\"begin\",\"pid\":7,\"tasks\":[\"a\",\"b\"]}\n", 1},
    {"{\"event\":\"begin\",\"tasks\":[]}\n", 1},
    {"{\"event\":\"add\",\"tasks\":[\"c\"]}\n", 1},
    {"{\"event\":\"add\",\"tasks\":[\"many\"]}\n", REPEAT},
    {"{\"event\":\"start\",\"task\":0}\n", 1},
    {"{\"event\":\"done\",\"task\":0,\"ms\":1}\n", 1},
    {"{\"event\":\"done\",\"task\":1,\"ms\":1}\n", 1},
    {"{\"event\":\"fail\",\"task\":1,\"error\":\"E\"}\n", 1},
    {"{\"event\":\"skip\",\"task\":2,\"why\":\"s\"}\n", 1},
    {"{\"event\":\"done\",\"task\":599}\n", 1},
    {"{\"event\":\"done\",\"task\":600}\n", REPEAT},
    {"{\"event\":\"fail\",\"task\":513}\n", REPEAT},
    {"{\"event\":\"skip\",\"task\":511}\n", REPEAT},
    {"{\"event\":\"end\"}\n", 1},
    {"{\"event\":\"", 1},
    {"\"task\":", 1},
    {"long ", 1000},
    {"x", REPEAT},
};

static size_t expand(const uint8_t *data, size_t len, uint8_t *out)
{
    size_t made = 0;
    for (size_t i = 0; i < len; i++) {
        if (data[i] < 0x80) {
            if (made < STREAM_MAX) {
                out[made++] = data[i];
            }
            continue;
        }
        const struct part *part = &parts[(data[i] & 0x7f) % (sizeof(parts) / sizeof(parts[0]))];
        size_t n = strlen(part->text);
        for (size_t j = 0; j < part->times && made + n <= STREAM_MAX; j++) {
            memcpy(out + made, part->text, n);
            made += n;
        }
    }
    return made;
}

/* What was called back, as a checksum. */
struct calls {
    uint64_t sum;
    size_t strays;
    size_t failures;
};

static void calls_add(struct calls *calls, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        calls->sum = (calls->sum ^ (uint8_t)data[i]) * 1099511628211u;
    }
}

static void on_stray(void *arg, const char *line, size_t len)
{
    struct calls *calls = arg;
    fuzz_assert(len <= 256);
    calls->strays++;
    calls_add(calls, line, len);
}

static void on_failed(void *arg, const char *task, const char *error)
{
    struct calls *calls = arg;
    calls->failures++;
    calls_add(calls, task, strlen(task) + 1);
    calls_add(calls, error, strlen(error) + 1);
}

/* The names of the tasks left over, in a buffer of any size they may be asked for. */
static void check_names(const struct deferral *deferral, size_t open, size_t ended)
{
    size_t size = 5 + (deferral->total + deferral->stray) % 64;
    char *names = malloc(size);
    fuzz_assert(names != NULL);
    fuzz_assert(deferral_unfinished(deferral, names, size) == deferral->total - ended);
    fuzz_assert(memchr(names, '\0', size) != NULL && (names[0] == '\0' || open > 0));
    free(names);
}

static void check_counts(const struct deferral *deferral, const struct calls *calls)
{
    size_t open = 0;
    size_t ended = deferral->done + deferral->failed + deferral->skipped;
    for (size_t i = 0; i < deferral->named; i++) {
        open += deferral->tasks[i]->state <= TASK_RUNNING;
    }
    fuzz_assert(ended <= deferral->total);
    fuzz_assert(deferral->named <= deferral->total && deferral->named <= DEFERRAL_TASKS_MAX);
    fuzz_assert(open <= deferral->total - ended);
    check_names(deferral, open, ended);
    fuzz_assert(deferral->stray == calls->strays);
    fuzz_assert(!deferral->ended || deferral->reports > 0);
    fuzz_assert((deferral_outcome(deferral, 1) == OUTCOME_FAILED) ==
                (deferral->ended && calls->failures > 0));
}

static int counted_alike(const struct deferral *a, const struct deferral *b)
{
    return a->total == b->total && a->named == b->named && a->done == b->done &&
           a->failed == b->failed && a->skipped == b->skipped && a->stray == b->stray &&
           a->pid == b->pid && a->reports == b->reports && a->ended == b->ended;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t expanded[STREAM_MAX];
    struct fuzz_pieces stream;
    struct calls calls = {0};
    struct calls whole_calls = {0};
    struct deferral deferral = {0};
    struct deferral whole = {0};
    const struct deferral_events events = {on_stray, on_failed, &calls, 0};
    const struct deferral_events whole_events = {on_stray, on_failed, &whole_calls, 0};
    if (fuzz_pieces_open(&stream, data, size) != 0) {
        return 0;
    }
    stream.len = expand(stream.data, stream.len, expanded);
    stream.data = expanded;
    size_t most = stream.most;
    while (fuzz_pieces_next(&stream)) {
        stream.most = stream.most == most ? most * 64 : most; /* small and large pieces in turn */
        deferral_feed(&deferral, stream.piece, stream.piece_len, &events);
    }
    deferral_feed(&whole, stream.data, stream.len, &whole_events);
    deferral_end(&deferral, &events);
    deferral_end(&whole, &whole_events);
    check_counts(&deferral, &calls);
    fuzz_assert(counted_alike(&deferral, &whole));
    fuzz_assert(calls.sum == whole_calls.sum && calls.strays == whole_calls.strays);
    deferral_free(&deferral);
    deferral_free(&whole);
    return 0;
}
