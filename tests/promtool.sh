#!/bin/sh
# Prints where promtool is. If it is not installed, takes it out of Debian's package into the
# directory $1: installing that package would start a server.
set -eu

if command -v promtool; then
    exit 0
fi
if [ ! -x "$1/usr/bin/promtool" ]; then
    mkdir -p "$1"
    (cd "$1" && apt-get download -q prometheus >&2 && dpkg-deb -x prometheus_*.deb .)
    rm -f "$1"/prometheus_*.deb
fi
echo "$1/usr/bin/promtool"
