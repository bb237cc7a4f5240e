#!/bin/sh
# Prints where promtool is. If it is not installed, takes it out of Debian's package into the
# directory $1: installing that package would start a server.
set -eu

if command -v promtool; then
    exit 0
fi
if [ ! -x "$1/usr/bin/promtool" ]; then
    sh "$(dirname "$0")/unpack.sh" prometheus "$1" >&2
fi
echo "$1/usr/bin/promtool"
