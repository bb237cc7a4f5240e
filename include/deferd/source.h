/*
 * A file of the configuration: INI in php-fpm's idiom.
 *
 *     ; a comment, on its own line or behind a value
 *     [section]
 *     directive = value
 *     directive = "a value; with what would end it, \" and \\"
 *     include = /etc/deferd/pool.d/ *.conf
 */
#ifndef DEFERD_SOURCE_H
#define DEFERD_SOURCE_H

#include "deferd/config.h"

/* Reads a file, and those it includes, into config. What is wrong goes to config->errors. */
void source_read(struct config *config, const char *path);

/* Writes a value so that it is read as it is: in quotes if need be. */
void source_print_value(FILE *out, const char *value);

/* The value that text, the part of a line behind its =, stands for: without quotes and comment. May
 * change text. Returns NULL with a sentence in *why if it is none. */
char *source_value(char *text, const char **why);

#endif
