#!/bin/sh
# The package in the new Debian, with its hardened unit. Stops at the first thing that is not as it
# must be.
. "$(dirname "$0")/common.sh"

main_pid() { systemctl show --property MainPID --value deferd; }
worker_pid() { pgrep --newest -P "$(main_pid)"; } # others may drain
is_active() { systemctl is-active --quiet deferd; }
is_inactive() { ! is_active; }
restarted() { [ "$(systemctl show --property NRestarts --value deferd)" = 1 ] && is_active; }
reload_fails() { ! systemctl reload deferd; }
says() { journalctl --quiet --unit deferd --since "$began" | grep -F "$1"; }
is_another() { [ "$(worker_pid)" != "$worker" ] && is_active; }

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
check "the folder of stop files is its own" \
    test "$(stat -c '%U:%G %a' /run/deferd/stop)" = "www-data:www-data 711"
check "deferctl reaches it" deferctl list

step "reload"
began=$(date '+%F %T')
worker=$(worker_pid)
check "a reload goes well" systemctl reload deferd
check "and has a new worker when it is over" is_another
cp /etc/deferd/deferd.conf /tmp/good.conf
echo 'nonsense = 1' >>/etc/deferd/deferd.conf
check "one with a mistake in the file fails" reload_fails
wait_for says 'nonsense: there is no such directive'
check "and says why" says 'nonsense: there is no such directive'
check "it is still active" is_active
cp /tmp/good.conf /etc/deferd/deferd.conf
sed -i 's|^;slowlog =.*|slowlog = /var/log/deferd/missing/slow.log|' /etc/deferd/deferd.conf
sed -i 's|^;defer_slowlog_timeout =.*|defer_slowlog_timeout = 1s|' /etc/deferd/deferd.conf
check "the file is in order" deferd -t
worker=$(worker_pid)
check "but no worker can start with it: that fails too" reload_fails
wait_for says 'missing/slow.log'
check "and says why" says 'missing/slow.log'
check "the worker is the old one" test "$(worker_pid)" = "$worker"
check "and serves" serves
cp /tmp/good.conf /etc/deferd/deferd.conf
sed -i 's|^control = .*|control = /run/deferd/other.sock|' /etc/deferd/deferd.conf
check "a reload that moves the control socket goes well" systemctl reload deferd
wait_for is_another
check "and has a new worker" is_another
worker=$(worker_pid)
check "so does one over the socket that was moved" systemctl reload deferd
check "which is over when it says so" is_another
sed -i 's|^control = .*|;control =|' /etc/deferd/deferd.conf
worker=$(worker_pid)
check "a reload that ends the control socket goes well" systemctl reload deferd
wait_for is_another
check "and has a new worker" is_another
worker=$(worker_pid)
check "so does one without" systemctl reload deferd
wait_for is_another
check "which has a new worker too" is_another
echo 'nonsense = 1' >>/etc/deferd/deferd.conf
check "a mistake is found all the same" reload_fails
cp /tmp/good.conf /etc/deferd/deferd.conf
worker=$(worker_pid)
check "and with it again" systemctl reload deferd
wait_for is_another
check "nothing was harmed" serves

step "upgrade and reload under load"
forget_callbacks
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
wait_for callbacks_over
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
