/*
 * Report lines: any bytes are either refused or a report that keeps what its header promises. So
 * that the fuzzer gets there, bytes from 0x80 on stand for what a report is made of.
 */
#include "deferd/report.h"
#include "fuzz.h"

static void check_report(const struct report *report)
{
    size_t i;
    const json_t *name;
    int has_tasks = report->event == REPORT_BEGIN || report->event == REPORT_ADD;
    int has_task = !has_tasks && report->event != REPORT_END;
    fuzz_assert(report->event >= REPORT_BEGIN && report->event <= REPORT_END);
    fuzz_assert(report->text != NULL && strlen(report->text) < REPORT_LINE_MAX);
    fuzz_assert(report->ratio >= 0 && report->ratio <= 1);
    fuzz_assert(report->ms >= 0);
    fuzz_assert(!has_task || report->task >= 0);
    fuzz_assert(!has_tasks || json_is_array(report->tasks));
    if (has_tasks) {
        json_array_foreach(report->tasks, i, name)
        {
            fuzz_assert(json_string_value(name) != NULL);
        }
    }
}

static const char *const words[] = {
    "{\"event\":\"begin\",\"tasks\":[\"a\"",
    "{\"event\":\"start\",\"task\":",
    "{\"event\":\"progress\",\"task\":0",
    "{\"event\":\"done\",\"task\":0",
    "{\"event\":\"fail\",\"task\":0",
    "{\"event\":\"skip\",\"task\":0",
    "{\"event\":\"add\",\"tasks\":[",
    "{\"event\":\"end\"",
    "\"event\":",
    ",\"pid\":",
    ",\"task\":",
    ",\"tasks\":",
    ",\"ms\":",
    ",\"ratio\":",
    ",\"text\":",
    ",\"error\":",
    ",\"why\":",
    "\"text\"",
    "\"\\u0000\"",
    "\"\xff\"",
    "9223372036854775807",
    "9223372036854775808",
    "-1",
    "1e308",
    "1e999",
    "0.5",
    "null",
    "{}",
    "]}",
    "}",
};

static size_t expand(const uint8_t *data, size_t len, char *out)
{
    size_t made = 0;
    for (size_t i = 0; i < len && made + 64 <= REPORT_LINE_MAX; i++) {
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char expanded[REPORT_LINE_MAX];
    struct report report;
    size_t len = expand(data, size, expanded);
    char *line = malloc(len > 0 ? len : 1);
    fuzz_assert(line != NULL);
    memcpy(line, expanded, len);
    int rc = report_parse(line, len, &report);
    free(line); /* nothing of the report may point into it */
    if (rc == 0) {
        check_report(&report);
    }
    report_free(&report);
    return 0;
}
