#!/bin/sh
# Stands in for build/deferd: the same under valgrind, which makes its exit status 9 on an error.
exec valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=all \
    --errors-for-leak-kinds=all "$(dirname "$0")/../build/deferd" "$@"
