"""The configuration: every directive, files and what is wrong in them, overrides, -T."""

import functools
import itertools
import os
import re
import signal
import socket
import subprocess

import pytest
from harness import FcgiClient, Master, wait_until
from harness.daemon import find_binary
from harness.waiting import DeadlinePassed

LONG = "x" * 3000

# By what help calls a value: wrong ones, and right ones that are no default. A directive of a kind
# that is not here fails, so that none is forgotten.
WRONG = {
    "N": ["", "-1", "x", "1x", "1.5", " ", "99999999999999999999", "4294967296"],
    "TIME": ["", "-1s", "x", "1x", "s", "1.5s", "99999999999999999999", "100d", "1 s"],
    "SIZE": ["", "-1", "x", "1T", "K", "99999999999999999999", "64M1"],
    "MODE": ["", "rw", "999", "0888", "-1", "01000"],
    "N|N%": ["", "0", "0%", "101%", "-1", "x", "50 %", "%", "99999999999999999999"],
    "yes|no": ["", "maybe", "2", "yes no"],
    "LEVEL": ["", "loud", "NOTICE", "3"],
    "PATH": ["relative", "./relative", "/" + LONG],
    "FILE": ["relative", "/" + LONG],
    "PATH|syslog|stderr": ["relative", "Syslog", "stdout", "/" + LONG],
    "ADDR": ["nonsense", "127.0.0.1", "127.0.0.1:65536", "::1:80", "unix:", "/" + "x" * 108,
             "no such host:80"],
    "ADDR,...": ["localhost", "127.0.0.1:80", "127.0.0.0/8", "127.0.0.1,", "1,2", "127.0.0.1 ::1",
                 ",".join(["::1"] * 65)],
    "TEXT": [LONG],
    "USER": ["nobody-of-this-name", "0", LONG],
    "GROUP": ["nobody-of-this-name", "0", LONG],
    "text|json": ["", "JSON", "xml"],
    "FACILITY": ["", "Daemon", "local8", "24"],
    "FORMAT": ["", "%", "%z", "%{", "%{}e", "%{seconds", "%{hours}d", "%{nothing}x", "%x", "%e",
               "%o", "%C", "%M", "%P", "%{x}s", "%{HTTP_AUTHORIZATION}e", "%{http_cookie}e",
               "%{DEFERD_TOKEN}e", "%{PHP_AUTH_PW}e", "%{DB_PASS}e",
               "%{PHP_AUTH_DIGEST}e", "%{AWS_ACCESS_KEY_ID}e", "%{Set-Cookie}o", "%{X-Api-Key}o",
               "%{X_CSRF_TOKEN}e", "%s" * 65, "x" * 1025],
}
RIGHT = {
    "N": "7", "TIME": "3s", "SIZE": "128K", "MODE": "0604", "N|N%": "33%", "yes|no": None,
    "LEVEL": "debug", "PATH": "{directory}/{name}", "FILE": None,
    "PATH|syslog|stderr": "{directory}/{name}", "ADDR": "{directory}/{name}.sock",
    "ADDR,...": None, "TEXT": "some text", "USER": "root", "GROUP": "root", "text|json": "json",
    "FACILITY": "local7", "FORMAT": r'"%s \"%r\" ; %{{outcome}}x"',
}


@functools.cache
def directives():
    """The program's table: (scope, name, kind, default)."""
    lines = subprocess.run([find_binary(), "--print-directives"], capture_output=True, text=True,
                           timeout=10, check=True).stdout.splitlines()
    assert len(lines) > 30
    return [tuple(line.split("\t")) for line in lines]


def run(*arguments):
    result = subprocess.run([find_binary(), *arguments], capture_output=True, text=True, timeout=10,
                            errors="replace", check=False)
    assert "Sanitizer" not in result.stderr
    return result


@pytest.fixture(name="config")
def fixture_config(workspace):
    """The least that is needed, as {section: {directive: value}}."""
    return {
        "global": {"pid": workspace.path("deferd.pid")},
        "www": {
            "listen": workspace.path("deferd.sock"),
            "upstream": workspace.path("fpm.sock"),
            "upstream.max_workers": "2",
        },
    }


def text_of(config):
    return "".join(
        f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in directives.items())
        for section, directives in config.items()
    )


def dump(workspace, text, name="deferd.conf", arguments=()):
    """What -T prints for it, which must be in order."""
    result = run("-c", workspace.write(name, text), *arguments, "-T")
    assert result.returncode == 0, result.stderr
    return result.stdout


def values(printed):
    """{"section.directive": value} of what -T printed."""
    found = {}
    section = None
    for line in printed.splitlines():
        if line.startswith("["):
            section = line[1:-1]
        elif line:
            name, value = line.split(" = ", 1)
            assert f"{section}.{name}" not in found, "printed once"
            found[f"{section}.{name}"] = value
    return found


def effective(workspace, text, *arguments):
    return values(dump(workspace, text, arguments=arguments))


def errors_of(workspace, text, *arguments):
    """Starts deferd, which must refuse; its lines, one for each thing that is wrong."""
    result = run("-c", workspace.write("deferd.conf", text), *arguments)
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert not os.path.exists(workspace.path("deferd.sock"))
    assert not os.path.exists(workspace.path("deferd.pid"))
    return result.stderr.splitlines()


def full_name(scope, name):
    """The directive as it stands in a file, and in which section."""
    section = "global" if scope == "global" else "www"
    if scope in ("upstream", "class"):
        return section, f"{scope}[one]" + (f".{name}" if name else "")
    return section, name


CASES = [(scope, name, value) for scope, name, kind, _ in directives() for value in WRONG[kind]]


@pytest.mark.parametrize(("scope", "name", "value"), CASES,
                         ids=[f"{s}-{n}-{v[:24]}" for s, n, v in CASES])
def test_wrong_value_is_one_clear_line_and_nothing_starts(workspace, config, scope, name, value):
    section, directive = full_name(scope, name)
    if scope == "upstream" and name:
        config["www"]["upstream[one]"] = workspace.path("one.sock")
    config[section].pop(directive, None)
    text = text_of(config).replace(f"[{section}]\n", f"[{section}]\n{directive} = {value}\n")
    number = text.splitlines().index(f"{directive} = {value}") + 1
    about = errors_of(workspace, text)
    assert len(about) == 1, about
    start = f"{workspace.path('deferd.conf')}:{number}: [{section}] {directive} = "
    assert about[0].startswith(start + value.strip()[:200])
    assert re.search(r"\ballowed (is|are) ", about[0])


def test_every_kind_of_value_is_known():
    kinds = {kind for _, _, kind, _ in directives()}
    assert kinds == set(WRONG) == set(RIGHT)


def right_value(workspace, scope, name, kind, default):
    if kind == "yes|no":
        return "no" if default == "yes" else "yes"
    if kind == "ADDR,...":
        return "127.0.0.1,::1"
    return RIGHT[kind].format(directory=workspace.directory, name=f"{scope}-{name or 'address'}")


def test_what_is_printed_is_read_as_the_same(workspace, config):
    expected = {}
    config["www"]["listen"] = "127.0.0.1:9999"
    for scope, name, kind, default in directives():
        if kind != "FILE" and (scope, name) != ("pool", "listen"):
            section, directive = full_name(scope, name)
            value = right_value(workspace, scope, name, kind, default)
            assert value != default
            config[section][directive] = expected[f"{section}.{directive}"] = value
    first = dump(workspace, text_of(config))
    found = {name: value.removeprefix("unix:") for name, value in values(first).items()}
    assert {name: found.get(name) for name in expected} == expected
    assert dump(workspace, first, "second.conf") == first


def test_defaults_are_printed_and_read_as_the_same(workspace, config):
    first = dump(workspace, text_of(config))
    found = values(first)
    for scope, name, kind, default in directives():
        if scope in ("global", "pool") and default and kind != "FORMAT":
            assert found[f"{'www' if scope == 'pool' else scope}.{name}"] == default
    assert dump(workspace, first, "second.conf") == first


def test_all_errors_are_said_with_their_lines(workspace):
    text = "[global]\nlog_level = loud\n\n; comment\n[www]\nqueue.max = x\nlisten = nonsense\n"
    path = workspace.path("deferd.conf")
    lines = errors_of(workspace, text)
    assert [line.split(" ")[0] for line in lines[:3]] == [f"{path}:{n}:" for n in (2, 6, 7)]
    assert len(lines) == 4
    assert "[www]: upstream is missing" in lines[3]


def test_errors_are_bounded(workspace, config):
    lines = errors_of(workspace, text_of(config) + "nonsense = 1\n" * 5000)
    assert 50 < len(lines) < 200
    assert "more" in lines[-1]


def test_test_says_that_all_is_in_order_and_starts_nothing(workspace, config):
    result = run("-c", workspace.write("deferd.conf", text_of(config)), "-t")
    assert (result.returncode, result.stdout) == (0, "")
    assert "in order" in result.stderr
    assert not os.path.exists(workspace.path("deferd.sock"))


# --- lines ---------------------------------------------------------------------------------------

VALUES = {
    'error_log = /a b': "/a b",
    'error_log =/a': "/a",
    '  error_log\t=\t/a  ': "/a",
    'error_log = "/a"': "/a",
    'error_log = "/a b" ; comment': "/a b",
    'error_log = "/a ; b"': '"/a ; b"',
    'error_log = /a ; comment with = and [x]': "/a",
    'error_log = /a;b': '"/a;b"',
    'error_log = /a # no comment': "/a # no comment",
    r'error_log = "/a \"b\" \\ \c"': r'/a "b" \ \c',
    'error_log = ; nothing': "",
    'error_log = ""': "",
    'error_log = /a"b"': '/a"b"',
    'error_log = /ä': "/ä",
}


@pytest.mark.parametrize("line", VALUES)
def test_quotes_and_comments(workspace, config, line):
    text = text_of(config).replace("[global]\n", f"[global]\n{line}\n")
    assert effective(workspace, text)["global.error_log"] == VALUES[line]


BROKEN = {
    "no value": ("queue.max\n", "neither a section"),
    "only a word": ("hello world\n", "neither a section"),
    "a section without end": ("[other\n", "no section"),
    "a section with something behind": ("[other] x = 1\n", "no section"),
    "an empty section": ("[]\n", "pool's name"),
    "a section with blanks": ("[a b]\n", "pool's name"),
    "a long section": ("[" + "x" * 200 + "]\n", "pool's name"),
    "a quote without end": ('queue.max = "5\n', "closing quote"),
    "something behind a quote": ('access.format = "%s" x "%r"\n', "behind the closing quote"),
    "a NUL": ("queue.max = 5\0\n", "control character"),
    "an escape": ("queue.max = \x1b[31m5\n", "control character"),
    "a long line": ("access.format = " + "x" * 5000 + "\n", "too long"),
    "a very long line": ("x" * 1000000 + "\n", "too long"),
    "an unknown directive": ("queue.maximum = 5\n", "no such directive"),
    "a directive of another section": ("pid = /x\n", "no such directive"),
    "an unknown directive of a class": ("class[a].limit = 5\n", "no such directive"),
    "a class without a directive": ("class[a] = 5\n", "no such directive"),
    "a class without a name": ("class[].priority = 5\n", "allowed is class[NAME]"),
    "a class without an end": ("class[a.priority = 5\n", "allowed is class[NAME]"),
    "a class with a wrong name": ("class[a b].priority = 5\n", "allowed is class[NAME]"),
    "an upstream with a long name": (f"upstream[{'x' * 32}] = /a\n", "allowed is class[NAME]"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_line_is_named(workspace, config, kind):
    line, said = BROKEN[kind]
    text = text_of(config)
    lines = errors_of(workspace, text + line)
    assert lines[0].startswith(f"{workspace.path('deferd.conf')}:{text.count(chr(10)) + 1}: ")
    assert said in lines[0]
    assert not re.search(r"[\x00-\x1f\x7f]", "".join(lines))


def test_what_follows_a_long_line_is_read(workspace, config):
    lines = errors_of(workspace, text_of(config) + "; " + "x" * 9000 + "\nqueue.max = x\n")
    number = text_of(config).count("\n") + 1
    assert [f":{number}:" in lines[0], f":{number + 1}:" in lines[1]] == [True, True]


def test_longest_value_is_read(workspace, config):
    config["www"]["access.format"] = "x" * 1023
    assert effective(workspace, text_of(config))["www.access.format"] == "x" * 1023


def test_dos_lines_and_byte_order_mark_and_no_last_line_feed(workspace, config):
    text = "\ufeff" + text_of(config).replace("\n", "\r\n")
    assert effective(workspace, text.rstrip("\r\n"))["www.upstream.max_workers"] == "2"


def test_garbage_is_refused(workspace):
    path = workspace.path("garbage.conf")
    with open(path, "wb") as file:
        file.write(bytes(range(256)) * 500)
    result = run("-c", path, "-t")
    assert result.returncode == 1
    assert "control character" in result.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", result.stderr)


def test_binary_is_refused():
    result = run("-c", find_binary(), "-t")
    assert result.returncode == 1
    assert len(result.stderr) < 200000


@pytest.mark.parametrize("path", ["/no/such/file", "/tmp", "/dev/zero"])
def test_file_that_cannot_be_read_is_named(path):
    result = run("-c", path, "-t")
    assert result.returncode == 1
    assert f"{path}: cannot be read" in result.stderr


def test_section_may_come_again(workspace, config):
    text = text_of(config) + "[global]\nlog_level = debug\n[www]\nqueue.max = 3\n"
    found = effective(workspace, text)
    assert (found["global.log_level"], found["www.queue.max"]) == ("debug", "3")


def test_last_value_counts(workspace, config):
    assert effective(workspace, text_of(config) + "queue.max = 3\nqueue.max = 4\n")[
        "www.queue.max"] == "4"


# --- what does not fit together -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["listen", "upstream", "upstream.max_workers"])
def test_missing_part_is_named(workspace, config, name):
    del config["www"][name]
    assert any(f"[www]: {name} is missing" in line for line in errors_of(workspace, text_of(config)))


def test_empty_pool_is_not_overlooked(workspace, config):
    lines = errors_of(workspace, text_of(config) + "[shop]\n")
    assert any("[shop]: listen is missing" in line for line in lines)


def test_no_pool_is_refused(workspace):
    assert "there is no pool" in errors_of(workspace, "[global]\nlog_level = notice\n")[0]


def test_empty_file_is_refused(workspace):
    assert "there is no pool" in errors_of(workspace, "")[0]


def test_directive_before_any_section_is_refused(workspace, config):
    assert "stands in no section" in errors_of(workspace, "queue.max = 3\n" + text_of(config))[0]


@pytest.mark.parametrize("other", ["{listen}", "unix:{listen}"])
def test_same_listen_twice_is_refused(workspace, config, other):
    config["shop"] = {**config["www"], "listen": other.format(**config["www"])}
    line, = errors_of(workspace, text_of(config))
    assert "[shop] listen = " in line and "the address of [www] listen" in line


@pytest.mark.parametrize(("one", "other"), itertools.combinations(
    ["listen", "control", "control.readonly", "metrics.listen"], 2))
def test_sockets_of_two_kinds_at_one_address_are_refused(workspace, config, one, other):
    """Or whoever may only look could change things, half of the time."""
    path = workspace.path("both.sock")
    for name in (one, other):
        config["www" if name == "listen" else "global"][name] = path
    line, = errors_of(workspace, text_of(config))
    there = f"[www] {one}" if one == "listen" else f"[global] {one}"
    assert f"[global] {other} = unix:{path}: that is the address of {there} already" in line


@pytest.mark.parametrize("to", [None, "", "stderr"])
def test_background_needs_a_log(workspace, config, to):
    config["global"].update({"daemonize": "yes", **({} if to is None else {"error_log": to})})
    [line] = errors_of(workspace, text_of(config))
    assert "[global] error_log is missing: with daemonize = yes, allowed is a file" in line


@pytest.mark.parametrize("extra", ["upstream[b]", "upstream"])
def test_same_upstream_twice_in_a_pool_is_refused(workspace, config, extra):
    """Its workers would be counted twice; two pools may share a php-fpm."""
    address = config["www"].pop("upstream")
    config["www"].update({"upstream[a]": address, extra: f"unix:{address}"})
    line, = errors_of(workspace, text_of(config))
    assert f"[www] {extra} = unix:{address}: an upstream of this pool has that address" in line
    del config["www"][extra]
    config["shop"] = {**config["www"], "listen": workspace.path("shop.sock")}
    assert effective(workspace, text_of(config))["shop.upstream[a]"] == f"unix:{address}"


def test_upstream_with_workers_but_no_address_is_refused(workspace, config):
    config["www"]["upstream[b].max_workers"] = "3"
    assert any("upstream[b] = ADDR is missing" in line
               for line in errors_of(workspace, text_of(config)))


def test_relative_socket_is_refused(workspace, config):
    config["www"]["listen"] = "run/deferd.sock"
    assert any("allowed is an absolute path" in line
               for line in errors_of(workspace, text_of(config)))


def test_slow_log_needs_its_file(workspace, config):
    config["www"]["defer_slowlog_timeout"] = "1s"
    assert any("slowlog is missing" in line for line in errors_of(workspace, text_of(config)))


def test_allowed_clients_need_tcp(workspace, config):
    config["www"]["listen.allowed_clients"] = "127.0.0.1"
    assert any("listen.allowed_clients" in line for line in errors_of(workspace, text_of(config)))


def test_what_processes_tell_each_other_is_no_directive(workspace, config):
    config["www"]["(paused)"] = "yes"
    [line] = errors_of(workspace, text_of(config))
    assert "(paused): there is no such directive" in line


def test_too_many_pools_classes_and_upstreams_are_refused(workspace, config):
    for kind, count in (("class", 40), ("upstream", 80)):
        extra = "".join(f"{kind}[n{i}].max_workers = 1\n" for i in range(count))
        assert any("at most" in line for line in errors_of(workspace, text_of(config) + extra))
    pools = {f"p{i}": {**config["www"], "listen": workspace.path(f"{i}.sock")} for i in range(70)}
    assert any("at most 64 pools" in line for line in errors_of(workspace, text_of(pools)))


def test_pool_stands_for_its_name(workspace, config):
    config["www"]["listen"] = workspace.path("$pool-$pool.sock")
    config["www"]["access.log"] = "/var/log/$pool.log"
    found = effective(workspace, text_of(config))
    assert found["www.listen"] == "unix:" + workspace.path("www-www.sock")
    assert found["www.access.log"] == "/var/log/www.log"


# --- include -------------------------------------------------------------------------------------


def test_include_with_a_pattern_beside_the_file(workspace, config):
    workspace.make_directory("pool.d")
    for name in ("a", "b"):
        workspace.write(f"pool.d/{name}.conf", f"[{name}]\nlisten = {workspace.path(name)}\n"
                        f"upstream = /x\nupstream.max_workers = 1\n")
    workspace.write("pool.d/c.off", "nonsense\n")
    found = effective(workspace, text_of(config) + "include = pool.d/*.conf\nqueue.max = 9\n")
    assert found["a.listen"] == "unix:" + workspace.path("a")
    assert found["b.listen"] == "unix:" + workspace.path("b")
    assert found["www.queue.max"] == "9", "the section goes on behind an include"


def test_include_goes_on_in_the_section(workspace, config):
    workspace.write("limits.conf", "queue.max = 5\ninclude = deeper.conf\n")
    workspace.write("deeper.conf", "queue.timeout = 5s\n")
    found = effective(workspace, text_of(config) + f"include = {workspace.path('limits.conf')}\n")
    assert (found["www.queue.max"], found["www.queue.timeout"]) == ("5", "5s")


def test_error_in_an_included_file_names_it(workspace, config):
    path = workspace.write("more.conf", "\nqueue.max = x\n")
    lines = errors_of(workspace, text_of(config) + "include = more.conf\nqueue.timeout = x\n")
    assert lines[0].startswith(f"{path}:2: [www] queue.max = x: ")
    assert lines[1].startswith(f"{workspace.path('deferd.conf')}:")


def test_include_of_nothing(workspace, config):
    effective(workspace, text_of(config) + "include = nothing/*.conf\n")
    lines = errors_of(workspace, text_of(config) + "include = nothing.conf\n")
    assert "nothing.conf: cannot be read" in lines[0]
    lines = errors_of(workspace, text_of(config) + f"include = {workspace.directory}\n")
    assert "cannot be read" in lines[0]


def test_include_of_itself(workspace, config):
    lines = errors_of(workspace, text_of(config) + "include = deferd.conf\n" * 20)
    assert len(lines) == 20
    assert all("includes itself" in line for line in lines)


def test_include_in_a_ring(workspace, config):
    for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
        workspace.write(f"{one}.conf", f"include = {other}.conf\n" * 10)
    lines = errors_of(workspace, text_of(config) + "include = a.conf\n")
    assert any("includes itself" in line for line in lines)


def test_include_too_deep_and_too_often(workspace, config):
    for depth in range(12):
        workspace.write(f"{depth}.conf", f"include = {depth + 1}.conf\n" * 10)
    workspace.write("12.conf", "queue.max = 5\n")
    lines = errors_of(workspace, text_of(config) + "include = 0.conf\n")
    assert "too deep" in lines[0]


# --- the command line ----------------------------------------------------------------------------


def test_override_counts_over_the_file(workspace, config):
    found = effective(workspace, text_of(config), "-o", "www.queue.max=77", "-o",
                      "global.log_level=debug", "-o", "www.class[a].priority=3", "-o",
                      "www.queue.max=78", "-o", "www.access.format=a=b.c")
    assert found["www.queue.max"] == "78"
    assert found["global.log_level"] == "debug"
    assert found["www.class[a].priority"] == "3"
    assert found["www.access.format"] == "a=b.c"


def test_override_may_make_a_pool(workspace, config):
    found = effective(workspace, text_of(config), "-o", f"b.listen={workspace.path('b')}", "-o",
                      "b.upstream=/x", "-o", "b.upstream.max_workers=1")
    assert found["b.upstream"] == "unix:/x"


@pytest.mark.parametrize("override", ["", "x", "www", "www.queue.max", "=", ".=", "www.=1",
                                      ".queue.max=1", "www.queue.max=x", "www.nothing=1",
                                      "a b.queue.max=1", "www.error_log=/x", "x" * 5000,
                                      "www.access.log=/a\nb", "www.include=/x"])
def test_wrong_override_is_refused(workspace, config, override):
    lines = errors_of(workspace, text_of(config), "-o", override)
    assert len(lines) >= 1
    assert lines[0].startswith("-o: ")
    assert not re.search(r"[\x00-\x1f\x7f]", "".join(lines))


def test_flags_and_a_file_do_not_go_together(workspace, config):
    path = workspace.write("deferd.conf", text_of(config))
    result = run("-c", path, "--queue-max", "3")
    assert result.returncode == 1
    assert "do not go together" in result.stderr


# --- it has effect -------------------------------------------------------------------------------


def serve(address, peer, body):
    with FcgiClient(address) as client:
        client.send_request(uri="/x")
        peer.accept_request().answer(body)
        return client.read_response().body


def test_two_pools_serve_side_by_side(workspace, start_master, start_peer):
    peers = [start_peer(), start_peer()]
    shop = workspace.path("shop.sock")
    master = start_master(peers[0], max_workers=1, pools={"shop": {
        "listen": shop, "upstream": str(peers[1].address), "upstream.max_workers": 1,
        "upstream.keepalive": "no"}})
    with FcgiClient(master.address) as one, FcgiClient(shop) as other:
        one.send_request(uri="/one")
        running = peers[0].accept_request()
        # The only worker of www is busy: shop has its own.
        other.send_request(uri="/other")
        peers[1].accept_request().answer(b"shop")
        assert other.read_response().body == b"shop"
        running.answer(b"www")
        assert one.read_response().body == b"www"
    assert {request.uri for request in master.wait_for_requests(2)} == {"/one", "/other"}
    assert serve(master.address, peers[0], b"again") == b"again"


def limit_of(pid, name):
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        return re.search(rf"^{name}\s+(\d+)\s+(\d+)", file.read(), re.M).groups()


def test_rlimit_files(start_master, peer):
    master = start_master(peer, options={"rlimit_files": "333"})
    assert limit_of(master.worker_pid, "Max open files")[0] == "333"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_group_and_mode_of_the_socket(start_master, peer):
    master = start_master(peer, pool={"listen.owner": "nobody", "listen.group": "nogroup",
                                      "listen.mode": "0612"})
    status = os.stat(master.address.path)
    assert (status.st_mode & 0o777) == 0o612
    assert status.st_uid == 65534
    assert status.st_gid == 65534


def connect_at_once(path):
    """A connection, or None when the backlog is full."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)
    except BlockingIOError:
        sock.close()
        return None
    return sock


def test_backlog(start_master, peer):
    master = start_master(peer, pool={"listen.backlog": "5"})
    os.kill(master.worker_pid, signal.SIGSTOP)
    socks = []
    try:
        wait_until(lambda: open(f"/proc/{master.worker_pid}/stat", encoding="ascii").read().rpartition(
            ")")[2].split()[0] == "T", what="it is stopped")
        while len(socks) < 100 and (sock := connect_at_once(master.address.path)) is not None:
            socks.append(sock)
    finally:
        for sock in socks:
            sock.close()
        os.kill(master.worker_pid, signal.SIGCONT)
    assert 5 <= len(socks) <= 6


def test_reload_with_a_wrong_file_changes_nothing(start_master, peer):
    master = start_master(peer)
    master.write_file(master.text() + "queue.max = x\n")
    assert "queue.max = x: allowed is" in master.reload_fails()
    serving = serve(master.address, peer, b"still there")
    assert serving == b"still there"


# --- listen.allowed_clients ----------------------------------------------------------------------


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_only_allowed_clients_are_served(start_master, peer):
    address = f"127.0.0.1:{free_port()}"
    master = start_master(peer, pool={"listen": address,
                                      "listen.allowed_clients": "127.0.0.2, ::1"})
    for _ in range(20):
        with FcgiClient(address) as client:
            client.wait_closed()
    match = master.wait_for_line(r"closed (\d+) connection.*listen.allowed_clients.* (\S+)$")
    assert match[2] == "127.0.0.1"
    with socket.socket() as sock:
        sock.bind(("127.0.0.2", 0))
        sock.connect(("127.0.0.1", int(address.split(":")[1])))
        with pytest.raises(TimeoutError):
            sock.settimeout(0.2)
            sock.recv(1)
    master.pools["www"]["listen.allowed_clients"] = "127.0.0.2,127.0.0.1"
    master.reload()
    wait_until(lambda: serves(address, peer), what="it is allowed now")
    master.stop()
    said = [line for line in master.lines if "listen.allowed_clients" in line]
    assert len(said) < 10, "not a line a connection"


def serves(address, peer):
    try:
        return serve(address, peer, b"served") == b"served"
    except (DeadlinePassed, OSError, EOFError):
        return False


# --- upstream.fpm_pool ---------------------------------------------------------------------------

POOL = "[{name}]\nuser = www-data\nlisten = {listen}\npm = static\npm.max_children = {children}\n"


def with_fpm_pool(workspace, config, text, directive="upstream.fpm_pool"):
    del config["www"]["upstream"]
    del config["www"]["upstream.max_workers"]
    config["www"][directive] = workspace.write("www.conf", text)
    return text_of(config)


@pytest.mark.parametrize(("listen", "connect"), [
    ("/run/php/php8.2-fpm.sock", "unix:/run/php/php8.2-fpm.sock"),
    ("/run/php/$pool.sock", "unix:/run/php/site.sock"),
    ('"/run/php/$pool.sock" ; comment', "unix:/run/php/site.sock"),
    ("9000", "127.0.0.1:9000"),
    ("127.0.0.1:9000", "127.0.0.1:9000"),
    ("0.0.0.0:9000", "127.0.0.1:9000"),
    ("[::]:9000", "[::1]:9000"),
    ("[::1]:9000", "[::1]:9000"),
])
def test_pool_file_of_php_fpm(workspace, config, listen, connect):
    text = POOL.format(name="site", listen=listen, children=17) + (
        "; a comment\nphp_admin_value[memory_limit] = 32M\nenv[PATH] = /bin:/usr/bin\n"
        "[global]\nlog_level = notice\n[site]\naccess.format = \"%R - %u %t \\\"%m %r\\\" %s\"\n")
    first = dump(workspace, with_fpm_pool(workspace, config, text))
    found = values(first)
    assert (found["www.upstream"], found["www.upstream.max_workers"]) == (connect, "17")
    os.unlink(workspace.path("www.conf"))
    assert dump(workspace, first, "second.conf") == first, "what is printed stands for itself"


def test_pool_files_of_several_upstreams(workspace, config):
    other = workspace.write("other.conf", POOL.format(name="b", listen="/b.sock", children=3))
    config["www"]["upstream[b].fpm_pool"] = other
    text = with_fpm_pool(workspace, config, POOL.format(name="a", listen="/a.sock", children=2))
    first = dump(workspace, text)
    found = values(first)
    assert (found["www.upstream"], found["www.upstream.max_workers"]) == ("unix:/a.sock", "2")
    assert (found["www.upstream[b]"], found["www.upstream[b].max_workers"]) == ("unix:/b.sock", "3")
    assert dump(workspace, first, "second.conf") == first


def test_workers_that_are_said_here_count(workspace, config):
    text = with_fpm_pool(workspace, config, POOL.format(name="a", listen="/a.sock", children=9))
    assert effective(workspace, text + "upstream.max_workers = 4\n")[
        "www.upstream.max_workers"] == "4"


@pytest.mark.parametrize(("text", "said"), [
    (None, "cannot be read: No such file"),
    ("", "no pool in this file"),
    ("[global]\npid = /x\n", "no pool in this file"),
    ("[a]\npm.max_children = 3\n", "[a] has no listen"),
    ("[a]\nlisten = /a\n", "no pm.max_children"),
    ("[a]\nlisten = /a\npm.max_children = many\n", "no pm.max_children"),
    ("[a]\nlisten = /a\npm.max_children = 0\n", "no pm.max_children"),
    ("[a]\nlisten = run/a.sock\npm.max_children = 3\n", "relative"),
    ("[a]\nlisten = nonsense\npm.max_children = 3\n", "listen = nonsense"),
    ("[a]\nlisten = 99999\npm.max_children = 3\n", "listen = 99999"),
    ("[a]\nlisten = /a\npm.max_children = 3\n[b]\nlisten = /b\n", "[a] and [b]"),
    ("\0\1\2" * 5000, "no pool in this file"),
])
def test_wrong_pool_file_is_refused(workspace, config, text, said):
    path = workspace.path("www.conf")
    text_here = with_fpm_pool(workspace, config, text or "")
    if text is None:
        os.unlink(path)
    lines = errors_of(workspace, text_here)
    assert len(lines) == 1
    assert f"[www] upstream.fpm_pool = {path}: " in lines[0]
    assert said in lines[0]


def test_pool_file_and_address_do_not_go_together(workspace, config):
    config["www"]["upstream.fpm_pool"] = workspace.write(
        "www.conf", POOL.format(name="a", listen="/a.sock", children=9))
    assert "only one of it" in errors_of(workspace, text_of(config))[0]


def test_pool_file_of_a_running_php_fpm(workspace, start_fpm, script):
    fpm = start_fpm(workers=2)
    master = Master(workspace, fpm, pool={
        "upstream": None, "upstream.max_workers": None,
        "upstream.fpm_pool": workspace.path("fpm-1", "php-fpm.conf")})
    with master:
        assert master.has_line("2 workers")
        with FcgiClient(master.address) as client:
            assert client.request(script=script("hello.php")).status == 200
