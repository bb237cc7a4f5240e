/*
 * What takes its time: waiting until a pool is idle, and reloading a php-fpm behind its back.
 */
#ifndef DEFERD_FPM_RELOAD_H
#define DEFERD_FPM_RELOAD_H

#include <stddef.h>

struct control;
struct control_client;
struct pool;

/* Holds the pool's requests back until nothing is under way, then answers the client; reload: has
 * its php-fpm reload meanwhile, together with all pools of the same php-fpm, and lets go again;
 * pool NULL: all pools that have a php-fpm. One at a time. Returns 0, or -1 with a sentence in err.
 */
int fpm_reload_begin(struct control *control, struct control_client *client, struct pool *pool,
                     int reload, char *err, size_t err_size);

/* Goes on if it can. Returns 0 if nothing is under way any more. */
int fpm_reload_poll(struct control *control);

/* The master has signalled php-fpm; why: NULL if it went well. */
void fpm_reload_signalled(struct control *control, const char *why);

/* Somebody pauses this pool meanwhile: it stays so when the other pools go on. */
void fpm_reload_leave_paused(struct control *control, const struct pool *pool);

/* The client is gone. A reload that is under way goes on to its end. */
void fpm_reload_forget(struct control *control, const struct control_client *client);

/* Gives it up, and lets go what it holds back. */
void fpm_reload_cancel(struct control *control, const char *why);

#endif
