/*
 * The header block of a CGI response: the same length and status whole, in any pieces, and by the
 * plain reference. So that the fuzzer gets there, bytes from 0x80 on stand for words.
 */
#include "../unit/naive.h"
#include "deferd/cgi.h"
#include "fuzz.h"

#define STREAM_MAX 4096

static const char *const words[] = {"\n",        "\r\n",    "\r\n\r\n",    "\n\n",
                                    "Status: ",  "status:", "STATUS\t",    "Location",
                                    "LOCATION:", "404 x",   "X-Status: 5", "\r"};

static size_t expand(const uint8_t *data, size_t len, uint8_t *out)
{
    size_t made = 0;
    for (size_t i = 0; i < len && made + 16 <= STREAM_MAX; i++) {
        if (data[i] < 0x80) {
            out[made++] = data[i];
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
    static uint8_t expanded[STREAM_MAX];
    struct fuzz_pieces stream;
    struct cgi_head head = {0};
    struct cgi_head whole = {0};
    size_t len = 0;
    if (fuzz_pieces_open(&stream, data, size) != 0) {
        return 0;
    }
    stream.len = expand(stream.data, stream.len, expanded);
    stream.data = expanded;
    size_t expected = naive_head(stream.data, stream.len);
    fuzz_assert(cgi_head_scan(&whole, stream.data, stream.len) == expected);
    while (len == 0 && fuzz_pieces_next(&stream)) {
        uint8_t *all = malloc(stream.at); /* elsewhere each time, as a growing buffer is */
        fuzz_assert(all != NULL);
        memcpy(all, stream.data, stream.at);
        len = cgi_head_scan(&head, all, stream.at);
        free(all);
        fuzz_assert(len <= stream.at && (len == 0 || len == expected));
    }
    fuzz_pieces_close(&stream);
    fuzz_assert(len == expected);
    if (len > 0) {
        fuzz_assert(cgi_head_status(&head) == naive_status(stream.data, len));
        fuzz_assert(cgi_head_status(&whole) == cgi_head_status(&head));
    }
    return 0;
}
