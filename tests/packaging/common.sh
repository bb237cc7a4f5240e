# What the scripts that run inside of the new Debian share.
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

# wait_for COMMAND...: for up to 20 seconds
wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1 || [ "$tries" -ge 200 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
}

runs_binary() { [ "$(readlink "/proc/$(cat /run/deferd/deferd.pid)/exe")" = /usr/sbin/deferd ]; }
runs_old_binary() { readlink "/proc/$(cat /run/deferd/deferd.pid)/exe" | grep -q deleted; }
serves() { [ "$(php /srv/get.php "$@")" = ok ]; }
load() { wrk -c64 -t2 -d"$1"s http://127.0.0.1:80/order.php; }
no_error() {
    if grep -E 'Socket errors|Non-2xx' /tmp/wrk.log; then
        grep -vE ' NOTICE: request=|outcome=completed' /var/log/deferd/error.log || true
        grep -E '_ms=[0-9]{4,}' /var/log/deferd/error.log
        return 1
    fi
    grep -q 'requests in' /tmp/wrk.log
}
is_gone() { [ ! -d "/proc/$1" ]; }

# Every request that PHP began ran its callback.
callbacks_over() {
    sort /srv/log/begun >/tmp/begun
    sort /srv/log/deferred >/tmp/deferred
    diff /tmp/begun /tmp/deferred
}
# Those of a load did, and once.
callbacks_once() {
    callbacks_over && [ "$(wc -l </tmp/begun)" -gt 1000 ] && [ -z "$(uniq -d /tmp/deferred)" ]
}
# A client has its response before the callback has written.
forget_callbacks() {
    wait_for callbacks_over
    check "the callbacks until now are over" callbacks_over
    rm /srv/log/*
}

# --- the site: nginx, and a script that defers, behind deferd; not started yet ------------------

mkdir -p /srv/www /srv/log /srv/php /run/php
cp -R /tmp/packaging/php/. /srv/php
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
# One that knows nothing of deferd.
cat >/srv/www/unaware.php <<'PHP'
<?php
final class Mailer
{
    public static function flush(): void
    {
        fastcgi_finish_request();
        usleep(2000);
    }
}
echo 'ok';
Mailer::flush();
PHP
cat >/srv/get.php <<'PHP'
<?php
echo file_get_contents('http://127.0.0.1/' . ($argv[1] ?? 'order.php'));
PHP
cat >/etc/nginx/sites-enabled/default <<'NGINX'
server {
    listen 127.0.0.1:80;
    root /srv/www;
    access_log off;
    location ~ \.php$ {
        include fastcgi_params;
        fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
        # What wrk leaves behind at its end is finished all the same.
        fastcgi_ignore_client_abort on;
        fastcgi_pass unix:/run/deferd/deferd.sock;
    }
}
NGINX
# dynamic forks one a second under load, which is php-fpm's own delay.
sed -i 's/^pm = dynamic/pm = static/' /etc/php/8.2/fpm/pool.d/www.conf
