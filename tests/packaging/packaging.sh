#!/bin/sh
# Installs the Debian package into a Debian of its own, upgrades it under load, removes and purges
# it: once with a master that is started by hand, once under a systemd of its own. Needs root,
# debootstrap, systemd-container and what apt-get reaches; takes minutes. Nothing outside of the new
# Debian is touched.
#
#     tests/packaging/packaging.sh [DEBIAN]     DEBIAN: a folder to keep the Debian in, for next time
set -eu

cd "$(dirname "$0")/../.."
work=$(mktemp -d /tmp/deferd-packaging.XXXXXX)
trap 'rm -rf "$work"' EXIT
base=${1:-$work/base}
inside=$work/packaging

if [ ! -e "$base/etc/debian_version" ]; then
    echo "making a Debian in $base"
    debootstrap --variant=minbase \
        --include=libuv1,libjansson4,libinih1,php8.2-fpm,nginx-light,wrk,procps,logrotate,systemd \
        bookworm "$base" >"$work/debootstrap.log" 2>&1 ||
        { tail "$work/debootstrap.log"; exit 1; }
fi

mkdir "$inside" "$inside/php" "$work/layer" "$work/root"
cp tests/packaging/*.sh "$inside"
cp -R php/src php/autoload.php php/composer.json php/polyfill.php "$inside/php"
for version in 0.0.1 0.0.2 0.0.3; do
    echo "making the package, version $version"
    make BUILD="$work/$version" VERSION=$version deb >"$work/make.log" 2>&1 ||
        { tail "$work/make.log"; exit 1; }
    mv "$work/$version/deb/deferd_${version}_"*.deb "$inside"
    rm -rf "${work:?}/$version"
done
lintian --allow-root --fail-on error "$inside"/deferd_0.0.1_*.deb

echo "== by hand"
# The Debian itself stays as it is: all changes go into a layer of memory.
cat >"$work/enter.sh" <<'ENTER'
set -eu
mount -t tmpfs tmpfs "$2/layer"
mkdir "$2/layer/upper" "$2/layer/work"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/layer/upper,workdir=$2/layer/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount -t tmpfs tmpfs "$2/root/run"
mount -t tmpfs tmpfs "$2/root/tmp"
ip link set lo up
cp -R "$2/packaging" "$2/root/tmp"
exec chroot "$2/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    sh /tmp/packaging/by_hand.sh
ENTER
unshare --mount --pid --fork --net --uts --ipc --kill-child sh "$work/enter.sh" "$base" "$work"

echo "== under systemd"
cat >"$inside/packaging.service" <<'UNIT'
[Unit]
After=php8.2-fpm.service nginx.service
[Service]
Type=oneshot
ExecStart=/bin/sh /tmp/packaging/under_systemd.sh
ExecStopPost=/bin/systemctl poweroff --force
StandardOutput=file:/tmp/packaging/out.log
StandardError=inherit
TimeoutStartSec=240
UNIT
timeout 300 systemd-nspawn --quiet --boot --directory="$base" --volatile=overlay --private-network \
    --register=no --keep-unit --machine="deferd-packaging-$$" --console=pipe \
    --bind="$inside:/tmp/packaging:norbind" \
    --bind-ro="$inside/packaging.service:/etc/systemd/system/packaging.service" \
    systemd.wants=packaging.service </dev/null >"$work/boot.log" 2>&1 || true
cat "$inside/out.log" 2>/dev/null || tail -n 30 "$work/boot.log"
grep -q ' passed, 0 failed' "$inside/out.log"
