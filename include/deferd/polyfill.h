/*
 * php/polyfill.php, as php.ini's auto_prepend_file names it.
 */
#ifndef DEFERD_POLYFILL_H
#define DEFERD_POLYFILL_H

/* Stands in the file's first lines; longer than what a file that requires it would say of it. */
#define POLYFILL_MARK "The deferd polyfill: what an application that knows nothing of deferd does"

enum polyfill_kind {
    POLYFILL_WHOLE,      /* ours, and its classes are beside it */
    POLYFILL_ALONE,      /* ours, but they are not, or cannot be read */
    POLYFILL_OTHER,      /* somebody else's file */
    POLYFILL_UNREADABLE, /* not there, or not to be read: see error */
};

/* Looks at the file as this user and group, if the process is root and they are not empty. *error:
 * an errno if it cannot be read. */
enum polyfill_kind polyfill_look(const char *path, const char *user, const char *group, int *error);

#endif
