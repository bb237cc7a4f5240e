#!/bin/sh
# The package in the new Debian, without systemd: the master is started by hand. Stops at the first
# thing that is not as it must be.
. "$(dirname "$0")/common.sh"

# unaware_is PATTERN: unaware.php serves, and a line in the log ends so.
unaware_is() { serves unaware.php && grep -q "unaware.php.* $1" /var/log/deferd/error.log; }
sees_polyfill() { deferd --check 2>&1 | grep -F 'seen, by name'; }

php-fpm8.2 --fpm-config /etc/php/8.2/fpm/php-fpm.conf
[ -e /run/php/php-fpm.sock ] || ln -s php8.2-fpm.sock /run/php/php-fpm.sock
nginx

step "install"
check "the package installs" dpkg -i /tmp/packaging/deferd_0.0.1_*.deb
check "it is of the version" test "$(deferd --version)" = "deferd 0.0.1"
check "the configuration is in order" deferd -t
check "it is a conffile" grep -q /etc/deferd/deferd.conf /var/lib/dpkg/info/deferd.conffiles
check "root alone writes to the logs' folder" \
    test "$(stat -c '%U:%G %a' /var/log/deferd)" = "root:adm 755"
check "the unit is there" test -s /lib/systemd/system/deferd.service
check "the folder of stop files is the worker's" \
    test "$(stat -c '%U:%G %a' /run/deferd/stop)" = "www-data:www-data 711"

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

step "the PHP package, and README.md's two lines of php.ini"
check "it is there, whole" diff -r /tmp/packaging/php /usr/share/deferd/php
wait_for unaware_is outcome=answered
check "what happens after the response has no name" unaware_is outcome=answered
two_lines=/etc/php/8.2/fpm/conf.d/99-deferd.ini
zcat -f /usr/share/doc/deferd/README.md* |
    sed -nE 's/^ +((auto_prepend_file|disable_functions) = )/\1/p' >"$two_lines"
check "they are two" test "$(wc -l <"$two_lines")" = 2
check "deferd finds them in order" sees_polyfill
kill -USR2 "$(cat /run/php/php8.2-fpm.pid)"
wait_for unaware_is 'outcome=completed .*tasks="Mailer::flush"'
check "with them it has" unaware_is 'outcome=completed .*tasks="Mailer::flush"'
check "and an application that has the package works with them" serves

step "upgrade, and back, and again, under load"
forget_callbacks
sed -i 's/^;queue.max = .*/queue.max = 2000/' /etc/deferd/deferd.conf
load 20 >/tmp/wrk.log 2>&1 &
wrk=$!
sleep 2
for version in 0.0.2 0.0.1 0.0.2; do
    check "$version installs over the other" dpkg -i /tmp/packaging/deferd_${version}_*.deb
    check "the master is the same process" test "$(cat /run/deferd/deferd.pid)" = "$master"
    check "and runs the new binary" runs_binary
    sleep 2
done
wait "$wrk" || true
cat /tmp/wrk.log
check "no request failed" no_error
wait_for callbacks_over
sleep 1
check "every callback ran once" callbacks_once
check "the changed configuration stays" grep -q '^queue.max = 2000' /etc/deferd/deferd.conf
check "the old workers have ended" test "$(pgrep -c -P "$master")" = 1

step "an upgrade that the configuration is not fit for"
cp /etc/deferd/deferd.conf /tmp/good.conf
echo 'nonsense = 1' >>/etc/deferd/deferd.conf
check "the package installs all the same" dpkg -i /tmp/packaging/deferd_0.0.3_*.deb
cp /tmp/check.log /tmp/upgrade.log
check "it says what is wrong" grep -q 'nonsense: there is no such directive' /tmp/upgrade.log
check "and what to do" grep -q 'deferctl upgrade' /tmp/upgrade.log
check "the old version goes on" runs_old_binary
check "and serves" serves
cp /tmp/good.conf /etc/deferd/deferd.conf
check "put right, it becomes the new one" deferctl upgrade
wait_for runs_binary
check "indeed" runs_binary
check "and serves" serves

step "an upgrade without a control socket"
sed -i 's/^control = .*/;control =/' /etc/deferd/deferd.conf
check "without one the worker is asked no more" deferctl reload
check "it installs" dpkg -i /tmp/packaging/deferd_0.0.2_*.deb
check "the master is the same process" test "$(cat /run/deferd/deferd.pid)" = "$master"
check "and runs the new binary" runs_binary
echo 'nonsense = 1' >>/etc/deferd/deferd.conf
check "with a mistake it installs too" dpkg -i /tmp/packaging/deferd_0.0.3_*.deb
cp /tmp/check.log /tmp/upgrade.log
check "which is said" grep -q 'nonsense: there is no such directive' /tmp/upgrade.log
check "the old version goes on" runs_old_binary
cp /tmp/good.conf /etc/deferd/deferd.conf
kill -USR2 "$master"
wait_for runs_binary
check "and by a signal becomes the new one" runs_binary
check "and serves" serves

step "remove and purge"
check "it is removed" dpkg -r deferd
cp /tmp/check.log /tmp/remove.log
check "it says what php.ini still has" grep -q "$two_lines names /usr/share/deferd/php" /tmp/remove.log
rm "$two_lines"
check "the master has ended" is_gone "$master"
check "the binary is gone" test ! -e /usr/sbin/deferd
check "the socket is gone" test ! -e /run/deferd/deferd.sock
check "the configuration stays" grep -q '^queue.max = 2000' /etc/deferd/deferd.conf
check "it comes back" dpkg -i /tmp/packaging/deferd_0.0.3_*.deb
check "with its configuration" grep -q '^queue.max = 2000' /etc/deferd/deferd.conf
check "it is purged" dpkg -P deferd
check "nothing is left" test -z "$(find / -xdev -name '*deferd*' -not -path '/srv/*' -not -path '/proc/*')"
check "nor in /run" test -z "$(find /run -name '*deferd*')"

echo "$passed passed, 0 failed"
