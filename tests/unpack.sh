#!/bin/sh
# Unpacks the Debian package $1 into the directory $2, without installing it.
set -eu

mkdir -p "$2"
cd "$2"
if ! apt-get download -q "$1"; then
    # The lists of packages may be none, or old.
    sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo=sudo
    fi
    $sudo apt-get update -q
    apt-get download -q "$1"
fi
dpkg-deb -x "$1"_*.deb .
rm -f "$1"_*.deb
