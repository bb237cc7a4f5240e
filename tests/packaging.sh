#!/bin/sh
# Installs the Debian package into a Debian of its own, upgrades it under load, removes and purges
# it. Needs root, debootstrap and what apt-get reaches; takes minutes. Nothing outside of the new
# Debian is touched, and no systemd runs in it: a master is started by hand.
#
#     tests/packaging.sh [DEBIAN]     DEBIAN: a folder to keep the Debian in, for the next time
set -eu

cd "$(dirname "$0")/.."
work=$(mktemp -d /tmp/deferd-packaging.XXXXXX)
trap 'rm -rf "$work"' EXIT
base=${1:-$work/base}

if [ ! -e "$base/etc/debian_version" ]; then
    echo "making a Debian in $base"
    debootstrap --variant=minbase \
        --include=libuv1,libjansson4,libinih1,php8.2-fpm,nginx-light,wrk,procps,logrotate \
        bookworm "$base" >"$work/debootstrap.log" 2>&1 ||
        { tail "$work/debootstrap.log"; exit 1; }
fi

# The Debian itself stays as it is: all changes go into a layer of this run's.
mkdir -p "$work/layer" "$work/root"
cat >"$work/outside.sh" <<'OUTSIDE'
set -eu
mount -t tmpfs tmpfs "$2/layer"
mkdir "$2/layer/upper" "$2/layer/work"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/layer/upper,workdir=$2/layer/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount -t tmpfs tmpfs "$2/root/run"
mount -t tmpfs tmpfs "$2/root/tmp"
ip link set lo up 2>/dev/null || true
mkdir "$2/root/tmp/deb" "$2/root/srv/php"
cp "$2"/*.deb "$2/root/tmp/deb"
cp -R php/src php/autoload.php "$2/root/srv/php"
cp tests/packaging-inside.sh "$2/root/tmp"
exec chroot "$2/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    sh /tmp/packaging-inside.sh
OUTSIDE

for version in 0.0.1 0.0.2 0.0.3; do
    echo "making the package, version $version"
    make BUILD="$work/$version" VERSION=$version deb >"$work/make.log" 2>&1 ||
        { tail "$work/make.log"; exit 1; }
    mv "$work/$version/deb/deferd_${version}_"*.deb "$work"
    rm -rf "${work:?}/$version"
done
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error "$work"/deferd_0.0.1_*.deb
fi
unshare --mount --pid --fork --net --uts --ipc --kill-child sh "$work/outside.sh" "$base" "$work"
