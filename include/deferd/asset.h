/*
 * Files that are part of the program.
 */
#ifndef DEFERD_ASSET_H
#define DEFERD_ASSET_H

/* src/control/status.html, from its first byte up to before asset_status_html_end. */
extern const char asset_status_html[];
extern const char asset_status_html_end[];

#endif
