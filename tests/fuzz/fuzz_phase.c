/*
 * What another process tells of a phase: any JSON is either refused or a phase that can be written
 * again, and is the same then. So that the fuzzer gets there, bytes from 0x80 on stand for what a
 * phase is made of.
 */
#include "deferd/phase.h"
#include "fuzz.h"

#define LINE_MAX_LEN 8192

static const char *const words[] = {
    "{\"id\":7,\"outcome\":null,\"tasks\":[",
    "{\"id\":7,\"outcome\":\"completed\",\"tasks\":[",
    "{\"name\":\"a\",\"state\":\"running\"",
    "{\"name\":\"b\",\"state\":\"done\"",
    ",\"text\":",
    ",\"error\":",
    ",\"ratio\":",
    ",\"ms\":",
    ",\"pool\":",
    ",\"uri\":",
    ",\"state\":\"stopping\"",
    ",\"started\":",
    ",\"age_ms\":",
    ",\"total\":",
    ",\"done\":",
    ",\"pid\":",
    ",\"status\":",
    ",\"held\":true",
    "\"text\"",
    "\"\\u00fc\"",
    "9223372036854775807",
    "-1",
    "1e11",
    "1e308",
    "0.0005",
    "null",
    "{}",
    "]",
    "}",
    "]}",
    ",",
};

static size_t expand(const uint8_t *data, size_t len, char *out)
{
    size_t made = 0;
    for (size_t i = 0; i < len && made + 64 <= LINE_MAX_LEN; i++) {
        if (data[i] < 0x80) {
            out[made++] = (char)data[i];
        } else {
            const char *word = words[(data[i] & 0x7f) % (sizeof(words) / sizeof(words[0]))];
            memcpy(out + made, word, strlen(word));
            made += strlen(word);
        }
    }
    return made;
}

static void check_phase(struct phase *phase)
{
    json_t *once = phase_json(phase, 1);
    struct phase *again = phase_parse(once);
    fuzz_assert(phase->id > 0 && phase->task_count <= DEFERRAL_TASKS_MAX);
    fuzz_assert(again != NULL && again->size == phase->size);
    json_t *twice = phase_json(again, 1);
    fuzz_assert(json_equal(once, twice));
    json_decref(once);
    json_decref(twice);
    free(again);
    phase_grow(phase, 1000);
    phase_lose(phase);
    fuzz_assert(!phase->live && phase_end(phase) >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char line[LINE_MAX_LEN];
    json_t *json = json_loadb(line, expand(data, size, line), 0, NULL);
    struct phase *phase = phase_parse(json);
    json_decref(json); /* nothing of the phase may point into it */
    if (phase != NULL) {
        check_phase(phase);
    }
    free(phase);
    return 0;
}
