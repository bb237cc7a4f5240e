#!/bin/sh
# The package in the new Debian, with its hardened unit. Stops at the first thing that is not as it
# must be.
. "$(dirname "$0")/common.sh"

main_pid() { systemctl show --property MainPID --value deferd; }
worker_pid() { pgrep -P "$(main_pid)"; }
is_active() { systemctl is-active --quiet deferd; }
is_inactive() { ! is_active; }
restarted() { [ "$(systemctl show --property NRestarts --value deferd)" = 1 ] && is_active; }
reload_fails() { ! systemctl reload deferd; }

# has PID FIELD VALUE: in /proc/PID/status
has() { grep -qE "^$2:[[:space:]]+$3\$" "/proc/$1/status"; }

systemctl restart php8.2-fpm nginx

step "install"
check "the package installs" dpkg -i /tmp/packaging/deferd_0.0.1_*.deb
check "it has started" is_active
check "and is started at boot" systemctl is-enabled deferd
check "it serves" serves
master=$(main_pid)
check "its worker has no rights" has "$(worker_pid)" CapEff 0+
check "and gets none" has "$(worker_pid)" NoNewPrivs 1

step "reload"
check "a reload goes well" systemctl reload deferd
cp /etc/deferd/deferd.conf /tmp/good.conf
echo 'nonsense = 1' >>/etc/deferd/deferd.conf
check "one that cannot go well says so" reload_fails
cp /tmp/good.conf /etc/deferd/deferd.conf
check "and harms nothing" serves

step "upgrade and reload under load"
rm -f /srv/log/*
load 10 >/tmp/wrk.log 2>&1 &
wrk=$!
sleep 2
check "the new version installs" dpkg -i /tmp/packaging/deferd_0.0.2_*.deb
check "the master is the same process" test "$(main_pid)" = "$master"
check "and runs the new binary" runs_binary
sleep 1
check "a reload goes well" systemctl reload deferd
wait "$wrk" || true
cat /tmp/wrk.log
check "no request failed" no_error
wait_for cmp -s /srv/log/begun /srv/log/deferred
sleep 1
check "every callback ran once" callbacks_once

step "watchdog"
mkdir -p /run/systemd/system/deferd.service.d
printf '[Service]\nWatchdogSec=3\n' >/run/systemd/system/deferd.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart deferd
sleep 5
check "it is fed" is_active
kill -STOP "$(worker_pid)"
wait_for restarted
check "a worker that hangs is restarted" restarted
check "and serves" serves

step "socket activation"
systemctl stop deferd
check "it has ended" is_inactive
cp /usr/share/doc/deferd/examples/deferd.socket /etc/systemd/system
systemctl daemon-reload
check "systemd listens" systemctl start deferd.socket
check "alone" is_inactive
check "a request starts deferd" serves
check "and is served by it" is_active
systemctl stop deferd
check "the socket outlives it" test -S /run/deferd/deferd.sock
systemctl stop deferd.socket
rm /etc/systemd/system/deferd.socket
systemctl daemon-reload

step "remove and purge"
check "it starts without" systemctl start deferd
master=$(main_pid)
check "it is purged" dpkg -P deferd
check "the master has ended" is_gone "$master"
check "nothing is left" test -z "$(find / -xdev -name '*deferd*' -not -path '/srv/*')"

echo "$passed passed, 0 failed"
