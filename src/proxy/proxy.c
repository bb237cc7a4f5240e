#include "deferd/proxy.h"

#include "deferd/request.h"
#include "deferd/server.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

int proxy_open(struct proxy *proxy, uv_loop_t *loop, struct pool_options *const *options,
               unsigned count)
{
    proxy->loop = loop;
    proxy->scratch = malloc(PROXY_SCRATCH);
    proxy->pools = calloc(count, sizeof(*proxy->pools));
    if (proxy->scratch == NULL || proxy->pools == NULL) {
        return UV_ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        int rc = pool_open(&proxy->pools[i], proxy, options[i]);
        proxy->pool_count++; /* also when it is open in part only: pool_free is for both */
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int proxy_listen(struct proxy *proxy, unsigned i, const struct listener *listener, char *err,
                 size_t err_size)
{
    struct pool *pool = &proxy->pools[i];
    pool->server = server_open(pool, listener, err, err_size);
    return pool->server != NULL ? 0 : -1;
}

struct pool *proxy_pool(const struct proxy *proxy, const char *name)
{
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        if (strcmp(proxy->pools[i].options->name, name) == 0) {
            return &proxy->pools[i];
        }
    }
    return NULL;
}

unsigned proxy_workers(const struct proxy *proxy)
{
    unsigned workers = 0;
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        workers += proxy->pools[i].workers;
    }
    return workers;
}

unsigned proxy_busy(const struct proxy *proxy)
{
    unsigned busy = 0;
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        busy += proxy->pools[i].busy;
    }
    return busy;
}

void proxy_drain(struct proxy *proxy)
{
    proxy->draining = 1;
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        pool_drain(&proxy->pools[i]);
    }
}

void proxy_resume(struct proxy *proxy)
{
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        pool_resume(&proxy->pools[i]);
    }
}

void proxy_log_cut(const struct proxy *proxy)
{
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        const struct request *request = NULL;
        DL_FOREACH(proxy->pools[i].requests, request)
        {
            request_log_cut(request);
        }
    }
}

void proxy_free(struct proxy *proxy)
{
    for (unsigned i = 0; i < proxy->pool_count; i++) {
        pool_free(&proxy->pools[i]);
    }
    free(proxy->pools);
    free(proxy->scratch);
    *proxy = (struct proxy){0};
}
