#!/bin/sh
# The part of packaging.sh that runs inside of the new Debian. Stops at the first thing that is not
# as it must be.
set -eu

passed=0

step() {
    echo "-- $*"
}

# check WHAT COMMAND...
check() {
    what=$1
    shift
    if ! "$@" >/tmp/check.log 2>&1; then
        cat /tmp/check.log
        tail -n 5 /var/log/deferd/error.log 2>/dev/null || true
        echo "not so: $what"
        echo "$passed passed, 1 failed"
        exit 1
    fi
    passed=$((passed + 1))
}

# wait_for WHAT COMMAND...: for up to 20 seconds
wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1 || [ "$tries" -ge 200 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
}

runs_binary() { [ "$(readlink "/proc/$(cat /run/deferd/deferd.pid)/exe")" = /usr/sbin/deferd ]; }
runs_old_binary() { readlink "/proc/$(cat /run/deferd/deferd.pid)/exe" | grep -q deleted; }
serves() { [ "$(php /srv/get.php)" = ok ]; }
load() { wrk -c64 -t2 -d"$1"s http://127.0.0.1:80/order.php; }
no_error() {
    if grep -E 'Socket errors|Non-2xx' /tmp/wrk.log; then
        grep -vE ' NOTICE: request=|outcome=(completed|client_gone)' /var/log/deferd/error.log || true
        grep -E '_ms=[0-9]{4,}' /var/log/deferd/error.log
        return 1
    fi
    grep -q 'requests in' /tmp/wrk.log
}
is_gone() { ! kill -0 "$1"; }

# Every response's callbacks ran once. What wrk left behind at its end may have run, or not.
callbacks_once() {
    sort /srv/log/begun >/tmp/begun
    sort /srv/log/deferred >/tmp/deferred
    [ "$(wc -l </tmp/begun)" -gt 1000 ] && cmp /tmp/begun /tmp/deferred &&
        [ -z "$(uniq -d /tmp/deferred)" ]
}

step "a site: nginx, php-fpm"
mkdir -p /srv/www /srv/log /run/php
chown www-data /srv/log
cat >/srv/www/order.php <<'PHP'
<?php
require '/srv/php/autoload.php';
$id = bin2hex(random_bytes(12));
file_put_contents('/srv/log/begun', "$id\n", FILE_APPEND);
$defer = new Deferd\Defer();
$defer->defer(function () use ($id) {
    usleep(2000);
    file_put_contents('/srv/log/deferred', "$id\n", FILE_APPEND);
});
echo 'ok';
$defer->run();
PHP
cat >/srv/get.php <<'PHP'
<?php
echo file_get_contents('http://127.0.0.1/order.php');
PHP
cat >/etc/nginx/sites-enabled/default <<'NGINX'
server {
    listen 127.0.0.1:80;
    root /srv/www;
    access_log off;
    location ~ \.php$ {
        include fastcgi_params;
        fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
        fastcgi_pass unix:/run/deferd/deferd.sock;
    }
}
NGINX
# dynamic forks one a second under load, which is php-fpm's own delay.
sed -i 's/^pm = dynamic/pm = static/' /etc/php/8.2/fpm/pool.d/www.conf
php-fpm8.2 --fpm-config /etc/php/8.2/fpm/php-fpm.conf
[ -e /run/php/php-fpm.sock ] || ln -s php8.2-fpm.sock /run/php/php-fpm.sock
nginx

step "install"
check "the package installs" dpkg -i /tmp/deb/deferd_0.0.1_*.deb
check "it is of the version" test "$(deferd --version)" = "deferd 0.0.1"
check "the configuration is in order" deferd -t
check "it is a conffile" grep -q /etc/deferd/deferd.conf /var/lib/dpkg/info/deferd.conffiles
check "the logs' folder is the worker's" \
    test "$(stat -c '%U:%G %a' /var/log/deferd)" = "www-data:adm 750"
check "the unit is there" test -s /lib/systemd/system/deferd.service
mkdir -p /run/deferd # as systemd's RuntimeDirectory

step "start"
check "it starts in the background" deferd -o global.daemonize=yes
master=$(cat /run/deferd/deferd.pid)
check "it serves" serves
check "its worker is www-data" pgrep -u www-data -P "$master"

step "rotate the log"
check "logrotate is content" logrotate -f /etc/logrotate.d/deferd
wait_for test -s /var/log/deferd/error.log
serves
check "the new log is used" sh -c \
    'for i in $(seq 50); do grep -q order.php /var/log/deferd/error.log && exit; sleep 0.1; done; exit 1'
check "its owner is the worker" \
    test "$(stat -c '%U:%G %a' /var/log/deferd/error.log)" = "www-data:adm 640"
check "the old one is kept" test -s /var/log/deferd/error.log.1

step "upgrade, and back, and again, under load"
rm -f /srv/log/*
sed -i 's/^;queue.max = .*/queue.max = 2000/' /etc/deferd/deferd.conf
load 20 >/tmp/wrk.log 2>&1 &
wrk=$!
sleep 2
for version in 0.0.2 0.0.1 0.0.2; do
    check "$version installs over the other" dpkg -i /tmp/deb/deferd_${version}_*.deb
    check "the master is the same process" test "$(cat /run/deferd/deferd.pid)" = "$master"
    check "and runs the new binary" runs_binary
    sleep 2
done
wait "$wrk" || true
cat /tmp/wrk.log
check "no request failed" no_error
wait_for cmp -s /srv/log/begun /srv/log/deferred
sleep 1
check "every callback ran once" callbacks_once
check "the changed configuration stays" grep -q '^queue.max = 2000' /etc/deferd/deferd.conf
check "the old workers have ended" test "$(pgrep -c -P "$master")" = 1

step "an upgrade that the configuration is not fit for"
cp /etc/deferd/deferd.conf /tmp/good.conf
echo 'nonsense = 1' >>/etc/deferd/deferd.conf
check "the package installs all the same" dpkg -i /tmp/deb/deferd_0.0.3_*.deb
cp /tmp/check.log /tmp/upgrade.log
check "it says what is wrong" grep -q 'nonsense' /tmp/upgrade.log
check "the old version goes on" runs_old_binary
check "and serves" serves
cp /tmp/good.conf /etc/deferd/deferd.conf
kill -USR2 "$master"
wait_for runs_binary
check "put right, it becomes the new one" runs_binary
check "and serves" serves

step "remove and purge"
check "it is removed" dpkg -r deferd
check "the master has ended" is_gone "$master"
check "the binary is gone" test ! -e /usr/sbin/deferd
check "the socket is gone" test ! -e /run/deferd/deferd.sock
check "the configuration stays" grep -q '^queue.max = 2000' /etc/deferd/deferd.conf
check "it comes back" dpkg -i /tmp/deb/deferd_0.0.3_*.deb
check "with its configuration" grep -q '^queue.max = 2000' /etc/deferd/deferd.conf
check "it is purged" dpkg -P deferd
check "nothing is left" test -z "$(find / -xdev -name '*deferd*' -not -path '/srv/*' -not -path '/proc/*')"
check "nor in /run" test -z "$(find /run -name '*deferd*')"

echo "$passed passed, 0 failed"
