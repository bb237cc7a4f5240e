"""--check: what does not fit between deferd's configuration and php-fpm's.

The configuration of php-fpm is made up, and so is whoever listens there, but for one test.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import threading

import pytest
from harness.daemon import REPOSITORY, find_binary

QUESTION = 8 + 2 + len("FCGI_MPXS_CONNS")
ANSWER = bytes((1, 10, 0, 0, 0, 18, 0, 0, 15, 1)) + b"FCGI_MPXS_CONNS0"
ME = pwd.getpwuid(os.geteuid()).pw_name
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Responder:
    """Listens like a php-fpm, and answers that many of the questions on a connection."""

    def __init__(self, path, answers=2):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        os.chmod(path, 0o777)
        self._answers = answers
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                have = 0
                while have < 2 * QUESTION:
                    data = connection.recv(1000)
                    if not data:
                        return
                    have += len(data)
                if self._answers is None:
                    connection.recv(1)  # says nothing until the other side goes
                else:
                    connection.sendall(ANSWER * self._answers)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(10)


class Site:
    """A folder like /etc/php with one pool, and deferd's configuration for it. Nothing is wrong."""

    def __init__(self, workspace):
        self._workspace = workspace
        self.version = "8.2"
        self.socket = workspace.path("fpm.sock")
        self.main = {"error_log": "/dev/null", "process_control_timeout": "60s"}
        self.pool = {
            "user": ME,
            "listen": self.socket,
            "pm": "static",
            "pm.max_children": 8,
        }
        self.ini = {"output_buffering": 4096}
        self.options = {"user": ME}
        self.www = {"listen": "/run/deferd.sock", "upstream": self.socket,
                    "upstream.max_workers": 8}
        self.more = ""
        self.limit = None
        self.folder = workspace.make_directory("prepended")
        self._write_prepended()

    def _write_prepended(self):
        """deferd's polyfill, the same without its classes, and somebody else's file."""
        shutil.copy(REPOSITORY / "php" / "polyfill.php", self.folder)
        shutil.copytree(REPOSITORY / "php" / "src", f"{self.folder}/src")
        folder = self._workspace.make_directory("alone")
        shutil.copy(REPOSITORY / "php" / "polyfill.php", f"{folder}/alone.php")
        self._workspace.write("prepended/other.php", "<?php // and the deferd polyfill\n")

    def text(self, value):
        """A value with the paths that are known only now."""
        names = {"socket": self.socket, "here": self._workspace.directory, "folder": self.folder,
                 "polyfill": f"{self.folder}/polyfill.php", "other": f"{self.folder}/other.php",
                 "alone": self._workspace.path("alone/alone.php")}
        for name, path in names.items():
            value = str(value).replace(f"{{{name}}}", path)
        return value

    def write(self):
        folder = f"php/{self.version}/fpm"
        self._workspace.make_directory(folder, "pool.d")
        self._workspace.make_directory(folder, "conf.d")
        self._write(f"{folder}/php-fpm.conf", "global", self.main)
        self._write(f"{folder}/pool.d/www.conf", "www", self.pool)
        self._write(f"{folder}/php.ini", "PHP", self.ini)
        file = self._workspace.path("deferd.conf")
        with open(file, "w", encoding="utf-8") as out:
            out.write(self._section("global", self.options) + self._section("www", self.www))
            out.write(self.more)
        return file

    @staticmethod
    def _section(name, values):
        return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())

    def _write(self, name, section, values):
        self._workspace.write(name, "; made up\n" + self._section(section, values))

    def check(self):
        """The findings, and the exit status."""
        command = [find_binary(), "--check", "--fpm-root", self._workspace.path("php"),
                   "-c", self.write()]
        if self.limit:
            command = ["prlimit", f"--nofile={self.limit}", *command]
        result = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
        assert "Sanitizer" not in result.stderr
        findings = result.stdout.splitlines()
        wrong = sum(finding.startswith("wrong: ") for finding in findings)
        assert all(re.match("wrong: |note: ", finding) for finding in findings)
        assert result.stderr == ("deferd: nothing is wrong\n" if wrong == 0 else
                                 f"deferd: {wrong} wrong\n")
        return findings, result.returncode


@pytest.fixture(name="site")
def fixture_site(workspace):
    return Site(workspace)


@pytest.fixture(name="responder")
def fixture_responder(site):
    responder = Responder(site.socket)
    yield responder
    responder.close()


def somaxconn():
    with open("/proc/sys/net/core/somaxconn", encoding="utf-8") as file:
        return int(file.read())


ZLIB = "zlib.output_compression"
PREPEND = "php_admin_value[auto_prepend_file]"
FINISH = "fastcgi_finish_request"

# What is changed, what is found, and the change that is just good enough to find nothing.
CASES = {
    "more workers than php-fpm has": (
        {"www": {"upstream.max_workers": 9}},
        r"wrong: .*max_workers lets in 9 .*pm\.max_children = 8 .*make the two equal",
        {"www": {"upstream.max_workers": 8}},
    ),
    "fewer workers than php-fpm has": (
        {"www": {"upstream.max_workers": 7}},
        r"note: .*max_workers lets in 7 .*pm\.max_children = 8 ",
        {"pool": {"pm.max_children": 7}, "www": {"upstream.max_workers": 7}},
    ),
    "idle connections are killed": (
        {"pool": {"request_terminate_timeout": "1s"}, "www": {"defer.timeout": "1s"}},
        r"wrong: .*upstream\.idle_timeout = 1s, .*request_terminate_timeout = 1s ",
        {"pool": {"request_terminate_timeout": "1s"},
         "www": {"defer.timeout": "1s", "upstream.idle_timeout": "500ms"}},
    ),
    "idle connections are killed, by a timeout in minutes": (
        {"pool": {"request_terminate_timeout": "2m"},
         "www": {"defer.timeout": "1m", "upstream.idle_timeout": "90s"},
         "main": {"process_control_timeout": "1h"}},
        r"wrong: .*upstream\.idle_timeout = 90s, .*request_terminate_timeout = 120s ",
        {"pool": {"request_terminate_timeout": "2m"},
         "www": {"defer.timeout": "1m", "upstream.idle_timeout": "90s",
                 "upstream.keepalive": "no"},
         "main": {"process_control_timeout": "1h"}},
    ),
    "callbacks are killed": (
        {"pool": {"request_terminate_timeout": "30"}, "www": {"defer.timeout": "31s"}},
        r"note: .*request_terminate_timeout = 30s .*defer\.timeout = 31s",
        {"pool": {"request_terminate_timeout": "30"}, "www": {"defer.timeout": "30s"}},
    ),
    "callbacks without a limit are killed": (
        {"pool": {"request_terminate_timeout": "30"}},
        r"note: .*request_terminate_timeout = 30s .*defer\.timeout = 0 ",
        {"pool": {"request_terminate_timeout": "0"}},
    ),
    "a reload of php-fpm kills": (
        {"main": {"process_control_timeout": "0"}},
        r"wrong: .*process_control_timeout is 0 .*set it",
        {"main": {"process_control_timeout": "10"}},
    ),
    "a reload of php-fpm is held up": (
        {"main": {"process_control_timeout": "1s"}},
        r"wrong: .*upstream\.idle_timeout = 1s, .*process_control_timeout = 1s ",
        {"main": {"process_control_timeout": "2s"}},
    ),
    "compression in php.ini": (
        {"ini": {ZLIB: "On"}},
        r"wrong: .*zlib\.output_compression = On in .*/php\.ini: ",
        {"ini": {ZLIB: "On"}, "pool": {f"php_value[{ZLIB}]": "0"}},
    ),
    "compression in the pool": (
        {"ini": {ZLIB: "Off"}, "pool": {f"php_flag[{ZLIB}]": "on"}},
        r"wrong: .*zlib\.output_compression = on in .*/www\.conf: ",
        {"pool": {f"php_admin_flag[{ZLIB}]": "off", f"php_flag[{ZLIB}]": "on"}},
    ),
    "a buffer that cannot be removed": (
        {"ini": {"output_handler": "ob_gzhandler"}},
        r"wrong: .*output_handler = ob_gzhandler ",
        {"ini": {"output_handler": "mb_output_handler"}},
    ),
    "a buffer without a limit": (
        {"ini": {"output_buffering": "On"}},
        r"note: .*output_buffering = On ",
        {"ini": {"output_buffering": "Off"}},
    ),
    "fastcgi_finish_request disabled for one pool": (
        {"pool": {"php_admin_value[disable_functions]": "exec, fastcgi_finish_request",
                  PREPEND: "{other}"}},
        r"wrong: .*this pool alone",
        {"ini": {"disable_functions": "exec,fastcgi_finish_request"},
         "pool": {"php_admin_value[disable_functions]": "fastcgi_finish_request",
                  PREPEND: "{other}"}},
    ),
    "fastcgi_finish_request disabled and not replaced": (
        {"ini": {"disable_functions": "exec,fastcgi_finish_request"}},
        r"wrong: .*no auto_prepend_file ",
        {"ini": {"disable_functions": "exec,fastcgi_finish_request",
                 "auto_prepend_file": "{other}"}},
    ),
    "fastcgi_finish_request replaced by nothing": (
        {"ini": {"disable_functions": FINISH, "auto_prepend_file": "none"}},
        r"wrong: .*no auto_prepend_file .*deferd's polyfill\.php",
        {"ini": {"disable_functions": FINISH, "auto_prepend_file": "found/in/include_path.php"}},
    ),
    "fastcgi_finish_request in a PHP that lets nobody replace it": (
        {"version": "8.0", "www": {"upstream.keepalive": "no"},
         "ini": {"disable_functions": FINISH, "auto_prepend_file": "{other}"}},
        r"wrong: .*disable_functions in .*php\.ini .*in PHP 8\.0 .*take it out",
        {"version": "8.0", "www": {"upstream.keepalive": "no"},
         "ini": {"auto_prepend_file": "{other}"}},
    ),
    "the polyfill": (
        {"ini": {"disable_functions": FINISH, "auto_prepend_file": "{polyfill}"}},
        r"note: .*auto_prepend_file = .*/polyfill\.php in .*php\.ini: .*is seen, by name",
        {},
    ),
    "the polyfill in the pool": (
        {"ini": {"disable_functions": FINISH}, "pool": {PREPEND: "{polyfill}"}},
        r"note: .*auto_prepend_file = .*/polyfill\.php in .*www\.conf: .*is seen, by name",
        {},
    ),
    "the polyfill and PHP's own function": (
        {"ini": {"auto_prepend_file": "{polyfill}"}},
        r"wrong: .*does nothing as long as .*set disable_functions = fastcgi_finish_request ",
        {},
    ),
    "the polyfill in an old PHP": (
        {"version": "8.0", "www": {"upstream.keepalive": "no"},
         "ini": {"auto_prepend_file": "{polyfill}"}},
        r"wrong: .*does nothing in PHP 8\.0: .*PHP 8\.1",
        {},
    ),
    "the polyfill without its classes": (
        {"ini": {"disable_functions": FINISH, "auto_prepend_file": "{alone}"}},
        r"wrong: .*/alone\.php .*without the folder src",
        {},
    ),
    "the polyfill is not there": (
        {"ini": {"disable_functions": FINISH, "auto_prepend_file": "{polyfill}s"}},
        r"wrong: .*/polyfill\.phps .*No such file or directory; every request fails",
        {},
    ),
    "the polyfill outside of open_basedir": (
        {"ini": {"disable_functions": FINISH, "auto_prepend_file": "{other}"},
         "pool": {"php_admin_value[open_basedir]": "/srv:{here}/prepend"}},
        r"wrong: .*/other\.php .*outside of open_basedir in .*www\.conf",
        {"ini": {"disable_functions": FINISH, "auto_prepend_file": "{other}"},
         "pool": {"php_admin_value[open_basedir]": "/srv/:{folder}/"}},
    ),
    "a function that is needed is disabled": (
        {"ini": {"disable_functions": "exec,getmypid"}},
        r"wrong: .*has getmypid, ",
        {"ini": {"disable_functions": "exec,getmypids,mygetmypid"}},
    ),
    "a function that is needed is disabled in the pool": (
        {"pool": {"php_admin_value[disable_functions]": "exec,GetMyPid"}},
        r"wrong: .*www\.conf has getmypid, ",
        {"pool": {"php_admin_value[disable_functions]": "exec"}},
    ),
    "an old PHP": (
        {"version": "7.4"},
        r"wrong: .*PHP 7\.4: .*8\.2\.13",
        {"version": "7.4", "www": {"upstream.keepalive": "no"}},
    ),
    "php-fpm's backlog": (
        {"pool": {"listen.backlog": 7}},
        r"wrong: .*listen\.backlog = 7 .*8 requests",
        {"pool": {"listen.backlog": 8}},
    ),
    "deferd's backlog": (
        {"www": {"listen.backlog": somaxconn() + 1}},
        rf"wrong: \[www\] listen\.backlog = {somaxconn() + 1}, .*somaxconn = {somaxconn()}:",
        {"www": {"listen.backlog": somaxconn()}},
    ),
    "pm = dynamic": (
        {"pool": {"pm": "dynamic"}}, r"note: .*pm = dynamic ", {"pool": {"pm": "static"}},
    ),
    "pm = ondemand": (
        {"pool": {"pm": "ondemand"}}, r"note: .*pm = ondemand ", {"pool": {"pm": "static"}},
    ),
    "too few files by configuration": (
        {"options": {"rlimit_files": 1500}},
        r"wrong: rlimit_files = 1500, .*8 workers .*need 1692 open files",
        {"options": {"rlimit_files": 1692}},
    ),
    "too few files by the limit": (
        {"limit": 1691},
        r"wrong: the limit of open files is 1691 here, .*need 1692:",
        {"limit": 1692},
    ),
    "no pool file": (
        {"pool": {"listen": "/run/somewhere/else.sock"}},
        r"note: .*no php-fpm pool below .* listens there",
        {"pool": {"listen": '"{socket}"'}},
    ),
    "two pools share a php-fpm": (
        {"more": "[other]\nlisten = /run/other.sock\nupstream = {socket}\n"
                 "upstream.max_workers = 1\n"},
        r"wrong: \[www\] .*max_workers lets in 9 .*pm\.max_children = 8 ",
        {"more": "[other]\nlisten = /run/other.sock\nupstream = {socket}\n"
                 "upstream.max_workers = 1\n", "pool": {"pm.max_children": 9}},
    ),
}


def change(site, changes):
    for name, value in changes.items():
        if isinstance(value, dict):
            getattr(site, name).update({key: site.text(text) for key, text in value.items()})
        else:
            setattr(site, name, site.text(value))


@pytest.mark.usefixtures("responder")
def test_nothing_is_found_where_all_fits(site):
    assert site.check() == ([], 0)


@pytest.mark.usefixtures("responder")
@pytest.mark.parametrize("case", CASES)
def test_finding(site, case):
    changes, expected, _ = CASES[case]
    change(site, changes)
    findings, status = site.check()
    assert len(findings) == 1, findings
    assert re.match(expected, findings[0]), findings[0]
    assert status == (1 if expected.startswith("wrong") else 0)


@pytest.mark.usefixtures("responder")
@pytest.mark.parametrize("case", CASES)
def test_no_finding_where_it_just_fits(site, case):
    change(site, CASES[case][2])
    assert site.check() == ([], 0)


@pytest.mark.usefixtures("responder")
def test_every_finding_is_said_at_once(site):
    change(site, {"www": {"upstream.max_workers": 9}, "ini": {ZLIB: "1"},
                  "main": {"process_control_timeout": "0"}})
    findings, status = site.check()
    assert (len(findings), status) == (3, 1)


@pytest.mark.usefixtures("responder")
def test_setting_in_conf_d_counts_over_php_ini(site, workspace):
    site.ini[ZLIB] = "Off"
    site.write()
    workspace.write("php/8.2/fpm/conf.d/20-site.ini", f"{ZLIB} = 4096\n")
    findings, status = site.check()
    assert (len(findings), status) == (1, 1)
    assert "20-site.ini" in findings[0]


@pytest.mark.usefixtures("responder")
def test_pool_is_found_by_another_name_of_its_socket(site, workspace):
    """Debian's /run/php/php-fpm.sock is a link, and a listen may have $pool in it."""
    link = workspace.path("link.sock")
    os.symlink(site.socket, link)
    site.www["upstream"] = link
    site.pool["listen"] = site.socket.replace("fpm.sock", "$pool.sock")
    os.symlink(site.socket, workspace.path("www.sock"))
    site.pool["pm.max_children"] = 7
    findings, status = site.check()
    assert (len(findings), status) == (1, 1)
    assert "pm.max_children = 7" in findings[0]


@pytest.mark.parametrize(
    ("listen", "upstream", "found"),
    [("9000", "127.0.0.1:9000", True), ("127.0.0.1:9000", "127.0.0.1:9000", True),
     ("0.0.0.0:9000", "127.0.0.1:9000", True), ("[::]:9000", "[::1]:9000", True),
     ("9001", "127.0.0.1:9000", False), ("127.0.0.2:9000", "127.0.0.1:9000", False)],
)
def test_pool_is_found_by_its_port(site, listen, upstream, found):
    site.pool["listen"] = listen
    site.www["upstream"] = upstream
    findings, _ = site.check()
    assert any("no php-fpm pool" in finding for finding in findings) is not found


def test_nobody_listens(site):
    findings, status = site.check()
    assert (len(findings), status) == (1, 1)
    assert re.match(r"wrong: .*cannot connect: No such file or directory; ", findings[0])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [(2, None), (1, r"wrong: .*answers as a PHP before 8\.2\.13"),
     (0, r"wrong: .*closed without an answer"), (None, r"note: .*not answered")],
)
def test_what_answers(site, answers, expected):
    responder = Responder(site.socket, answers)
    findings, status = site.check()
    responder.close()
    assert len(findings) == (expected is not None)
    assert status == (expected or "").startswith("wrong")
    assert expected is None or re.match(expected, findings[0])


@needs_root
@pytest.mark.usefixtures("responder")
def test_users_that_differ(site):
    site.options["user"] = "www-data"
    site.pool["user"] = "nobody"
    findings, status = site.check()
    assert (len(findings), status) == (1, 0)
    assert re.match(r"note: .*user nobody .*user www-data", findings[0])
    site.pool["user"] = "www-data"
    assert site.check() == ([], 0)


@needs_root
@pytest.mark.usefixtures("responder")
def test_user_without_access_to_the_socket(site):
    site.options["user"] = site.pool["user"] = "www-data"
    os.chmod(site.socket, 0o600)
    findings, status = site.check()
    assert (len(findings), status) == (1, 1)
    assert re.match(r"wrong: .*user www-data cannot connect: Permission denied; ", findings[0])


@needs_root
@pytest.mark.usefixtures("responder")
@pytest.mark.parametrize(
    ("hidden", "expected"),
    [("polyfill.php", r"wrong: .*cannot be read by user nobody: Permission denied; every request"),
     ("src", r"wrong: .*without the folder src .*let user nobody read both"),
     (None, "note: .*is seen, by name")],
)
def test_user_that_may_not_read_the_polyfill(site, hidden, expected):
    site.options["user"] = site.pool["user"] = "nobody"
    change(site, {"ini": {"disable_functions": FINISH, "auto_prepend_file": "{polyfill}"}})
    if hidden:
        os.chmod(f"{site.folder}/{hidden}", 0o700)
    findings, status = site.check()
    assert (len(findings), status) == (1, 1 if hidden else 0)
    assert re.match(expected, findings[0]), findings[0]


@needs_root
@pytest.mark.usefixtures("responder")
def test_group_that_may_read_the_polyfill(site):
    site.options["user"] = site.pool["user"] = "nobody"
    change(site, {"ini": {"disable_functions": FINISH, "auto_prepend_file": "{polyfill}"}})
    shutil.chown(site.folder, group="www-data")
    os.chmod(site.folder, 0o750)
    assert site.check()[1] == 1
    site.pool["group"] = "www-data"
    assert site.check()[1] == 0


@needs_root
@pytest.mark.usefixtures("responder")
def test_worker_that_would_be_root(site):
    del site.options["user"]
    findings, status = site.check()
    assert (len(findings), status) == (1, 0)
    assert "the worker is root too" in findings[0]


def test_real_php_fpm(site, shared_fpm):
    """The harness's php-fpm has all in php-fpm.conf; here only the connection is looked at."""
    site.pool["listen"] = site.www["upstream"] = str(shared_fpm.address)
    assert site.check() == ([], 0)


def test_configuration_is_tested_first(site):
    site.www["queue.max"] = "many"
    site.www.pop("upstream")
    result = subprocess.run([find_binary(), "--check", "-c", site.write()], capture_output=True,
                            text=True, timeout=10, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "queue.max = many" in result.stderr
