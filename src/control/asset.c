#include "deferd/asset.h"

/* The assembler reads the file from where make runs; the Makefile names it as a prerequisite. */
__asm__(".pushsection .rodata\n"
        ".global asset_status_html, asset_status_html_end\n"
        "asset_status_html:\n"
        ".incbin \"src/control/status.html\"\n"
        "asset_status_html_end:\n"
        ".popsection\n");
