/*
 * What is written about the directives, made from their table: the manual page's section and the
 * sample configuration.
 */
#ifndef DEFERD_MANUAL_H
#define DEFERD_MANUAL_H

#include <stdio.h>

/* Source of the section DIRECTIVES of deferd.conf(5). */
void manual_print_directives(FILE *out);

/* A configuration that names every directive: those that a site sets, and the others as comments
 * with their default or an example. */
void manual_print_sample(FILE *out);

#endif
