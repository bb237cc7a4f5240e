#!/bin/sh
# Writes an xdebug.ini into the directory $1, for PHP_INI_SCAN_DIR, and takes Xdebug out of Debian's package for it:
# installed, it would slow down every PHP on the machine.
set -eu

mkdir -p "$1"
if [ ! -e "$1/xdebug.ini" ]; then
    package=$(php -r 'printf("php%d.%d-xdebug", PHP_MAJOR_VERSION, PHP_MINOR_VERSION);')
    sh "$(dirname "$0")/unpack.sh" "$package" "$1"
fi
cd "$1"
if [ ! -e xdebug.ini ]; then
    cat >xdebug.new <<EOF
zend_extension=$(echo "$PWD"/usr/lib/php/*/xdebug.so)
xdebug.mode=coverage
pcov.enabled=0
opcache.enable=0
EOF
    mv xdebug.new xdebug.ini
fi
if ! PHP_INI_SCAN_DIR=":$PWD" php -r 'exit(extension_loaded("xdebug") ? 0 : 1);'; then
    echo "$PWD/xdebug.ini: this php does not load it; if PHP is another than before, remove the directory" >&2
    exit 1
fi
