/*
 * A configuration file of any bytes: it is refused with lines that are fit for a terminal, or what
 * is printed of it is read as the same.
 */
#include "fuzz.h"

#include "deferd/config.h"
#include "deferd/directive.h"

#include <sys/mman.h>
#include <unistd.h>

/* Not what would read other files, or ask for names of hosts. */
static int is_harmless(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"include", "fpm_pool", "listen", "upstream"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (memmem(data, size, names[i], strlen(names[i])) != NULL) {
            return 0;
        }
    }
    return 1;
}

/* A file with this text, which is taken from the start of it. Returns its descriptor. */
static int file_of(const void *data, size_t len, char *path, size_t size)
{
    int fd = memfd_create("fuzz", 0);
    fuzz_assert(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    snprintf(path, size, "/proc/self/fd/%d", fd);
    return fd;
}

static char *print(const struct config *config)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    fuzz_assert(out != NULL);
    config_print(config, 1, out);
    fclose(out);
    return text;
}

/* Reads text, with a pool that is complete behind it. Returns what is printed, or NULL. */
static char *read_and_print(const void *data, size_t len)
{
    char path[64];
    struct config config;
    char *text = NULL;
    int fd = file_of(data, len, path, sizeof(path));
    config_init(&config);
    config_load(&config, path);
    if (config.pool_count == 0) {
        config_set(&config, "-o", "www", "queue.max", "1");
    }
    for (unsigned i = 0; i < config.pool_count; i++) {
        struct pool_options *pool = config.pools[i];
        char listen[64];
        snprintf(listen, sizeof(listen), "/%u", i);
        config_set(&config, "-o", pool->name, "listen", listen);
        config_set(&config, "-o", pool->name, "upstream", "/x");
        config_set(&config, "-o", pool->name, "upstream.max_workers", "1");
    }
    if (config_finish(&config, path) == 0) {
        text = print(&config);
    }
    for (size_t i = 0; i < config.errors.len; i++) {
        fuzz_assert(config.errors.data[i] == '\n' ||
                    (config.errors.data[i] >= ' ' && config.errors.data[i] != 0x7f));
    }
    fuzz_assert((text == NULL) == (config.errors.len > 0));
    config_free(&config);
    close(fd);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (is_harmless(data, size)) {
        char *first = read_and_print(data, size);
        char *second = first != NULL ? read_and_print(first, strlen(first)) : NULL;
        fuzz_assert(first == NULL || (second != NULL && strcmp(first, second) == 0));
        free(first);
        free(second);
    }
    return 0;
}
