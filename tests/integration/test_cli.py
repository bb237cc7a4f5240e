"""The command line."""

import re
import subprocess

import pytest
from harness import Deferd
from harness.daemon import find_binary

# Those that are not made from a directive.
OPTIONS = {"--check", "--help", "--version", "--upstream", "--class"}


def run(*arguments):
    result = subprocess.run([find_binary(), *arguments], capture_output=True, text=True, timeout=10,
                            check=False)
    assert "Sanitizer" not in result.stderr
    return result


def flag_of(directive):
    """upstream.max_workers is --max-workers; otherwise . and _ become -."""
    name = "max-workers" if directive == "upstream.max_workers" else directive
    return "--" + re.sub("[._]", "-", name)


def test_help_names_every_option():
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line.split("\t") for line in run("--print-directives").stdout.splitlines()]
    flags = {flag_of(name) for scope, name, *_ in rows if scope in ("global", "pool")}
    assert len(flags) > 20
    named = re.findall(r"^  (?:-\w, )?(--[a-z-]+)", result.stdout, re.MULTILINE)
    assert sorted(named) == sorted(flags | OPTIONS)


def test_version_is_one_line():
    result = run("--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"deferd \d+\.\d+\S*\n", result.stdout)


@pytest.fixture(name="good")
def fixture_good(workspace):
    """The least that is needed."""
    return {
        "--listen": workspace.path("deferd.sock"),
        "--upstream": workspace.path("fpm.sock"),
        "--max-workers": "1",
    }


def flatten(options):
    return [word for option in options.items() for word in option]


def assert_refused(result, *names):
    assert result.returncode not in (0, -6, -11)
    assert result.returncode > 0, "ended by a signal"
    assert result.stdout == ""
    for name in names:
        assert name in result.stderr


def test_unknown_option_is_refused(good):
    assert_refused(run(*flatten(good), "--frobnicate"), "frobnicate")


def test_stray_argument_is_refused(good):
    assert_refused(run(*flatten(good), "stray"), "stray")


def test_nothing_at_all_is_refused():
    assert_refused(run())


@pytest.mark.parametrize("option", ["--listen", "--upstream", "--max-workers"])
def test_missing_option_is_named(good, option):
    del good[option]
    assert_refused(run(*flatten(good)), option.strip("-"))


@pytest.mark.parametrize("option", ["--listen", "--upstream", "--max-workers"])
def test_missing_value_is_named(option):
    assert_refused(run(option), option.strip("-"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--max-workers", value) for value in
          ("0", "-1", "", "x", "1x", " ", "1.5", "99999999999", "99999999999999999999999")),
        *(("--log-level", value) for value in ("loud", "", "NOTICE ", "3")),
        *(("--listen-mode", value) for value in ("rw", "", "999", "0888", "-1", "77777")),
        *(("--max-params", value) for value in ("-1", "", "x", "1q", "99999999999999999999999")),
        *((option, value) for option in ("--listen", "--upstream") for value in
          ("", "unix:", "nonsense", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
           "127.0.0.1:-1", "::1:80", "[::1:80", "[::1]80", ":", "/" + "x" * 108)),
    ],
)
def test_wrong_value_is_refused_and_named(good, option, value):
    good[option] = value
    assert_refused(run(*flatten(good)), option.strip("-"))


NO_NUMBERS = ["-1", "", "x", "1x", " ", " 1", "+1", "1.5", "1,5", "99999999999999999999999"]
NO_SHARES = ["0", "-1", "", "x", "1x", "1.5", "%", "0%", "101%", "50%%", "50 %", "1000001",
             "99999999999999999999999", "99999999999999999999999%"]
NO_DURATIONS = ["-1", "", "x", "s", "ms", "1x", "1.5s", "1 s", "10sec", "1s1s",
                "31d", "99999999999999999999999", "18446744073709551616ms"]
NO_PAIRS = [("", ""), ("x", "x"), ("priority", "priority"), ("x=1", "x"), ("=1", ""),
            ("Priority=1", "Priority"), (" priority=1", " priority")]


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        *(("--queue-max", value, value) for value in (*NO_NUMBERS, "1000001")),
        *(("--defer-max-workers", value, value) for value in NO_SHARES),
        *((option, value, value) for value in NO_DURATIONS for option in
          ("--queue-timeout", "--defer-timeout", "--upstream-idle-timeout")),
        *((option, value, value) for value in ("0", "0ms", "0h") for option in
          ("--queue-timeout", "--upstream-idle-timeout")),
        *(("--upstream-keepalive", value, value) for value in
          ("", "2", "yes ", "noo")),
        *(("--class", value, value) for value in ("", ",", "n" * 32)),
        ("--class", ",priority=1", "class[]"),
        ("--class", "n" * 300, "n" * 64),
        *(("--class", f"name,{pair}", named) for pair, named in NO_PAIRS),
        *(("--class", f"name,priority=1,{pair}", named) for pair, named in NO_PAIRS),
        *(("--class", f"name,{pair},priority=1", named) for pair, named in NO_PAIRS),
        *(("--class", f"name,priority={value}", value) for value in
          ("-1", "", "x", "1x", " ", "1.5", "101", "99999999999999999999999")),
        *(("--class", f"name,max_workers={value}", value) for value in NO_SHARES),
        *(("--class", f"name,queue_timeout={value}", value) for value in (*NO_DURATIONS, "0")),
        *(("--upstream", f"/fpm.sock,{pair}", named) for pair, named in NO_PAIRS),
        *(("--upstream", f"/fpm.sock,max_workers=1,{pair}", named) for pair, named in NO_PAIRS),
        *(("--upstream", f"/fpm.sock,max_workers={value}", value) for value in
          ("0", "-1", "", "x", "1x", "1.5", "50%", "1000001", "99999999999999999999999")),
        ("--upstream", ",max_workers=1", ""),
        ("--upstream", "nonsense,max_workers=1", "nonsense"),
    ],
)
def test_wrong_value_is_refused_in_one_line_that_names_it(good, option, value, named):
    good[option] = value
    result = run(*flatten(good))
    assert_refused(result)
    assert re.fullmatch(rf"{option}: .*{re.escape(named)}.*\n", result.stderr)
    assert re.search("allowed|no such directive|write|missing", result.stderr), "what is right"


@pytest.mark.parametrize(
    ("option", "count", "value"),
    [("--upstream", 64, "/fpm-{}.sock"), ("--class", 31, "class-{}")],
)
def test_more_of_an_option_than_allowed_is_refused(good, option, count, value, workspace):
    good["--listen"] = workspace.path("missing", "deferd.sock")
    del good["--upstream"]
    values = [word for number in range(count) for word in (option, value.format(number))]
    values += ["--upstream", "/fpm.sock"] if option == "--class" else []
    assert good["--listen"] in run(*flatten(good), *values).stderr, "so many are allowed"
    result = run(*flatten(good), *values, option, "/one-more")
    assert_refused(result, f"{option}: ", "at most")
    assert result.stderr.count("\n") == 1


def test_upstream_given_twice_is_refused(good):
    result = run(*flatten(good), "--upstream", f"unix:{good['--upstream']},max_workers=1")
    assert_refused(result, f"--upstream unix:{good['--upstream']}: it is given already")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--queue-max", value) for value in ("0", "1", "1000000")),
        *(("--defer-max-workers", value) for value in ("1", "1000000", "1%", "100%")),
        *((option, value) for value in ("1", "1ms", "500ms", "10s", "5m", "1h")
          for option in ("--queue-timeout", "--defer-timeout", "--upstream-idle-timeout")),
        *(("--defer-timeout", value) for value in ("0", "0s")),
        *(("--upstream-keepalive", value) for value in ("yes", "no")),
        *(("--class", value) for value in
          ("n", "n" * 31, "default", "default,priority=0", "name,priority=100",
           "name,max_workers=50%,priority=1,queue_timeout=1ms")),
        *(("--upstream", value) for value in
          ("/fpm.sock,max_workers=1", "127.0.0.1:9000,max_workers=1000000",
           "[::1]:9000,max_workers=7")),
    ],
)
def test_right_value_is_taken(good, option, value, workspace):
    """All that is wrong is where it is to listen, which it says after the options."""
    good["--listen"] = workspace.path("missing", "deferd.sock")
    good[option] = value
    result = run(*flatten(good))
    assert_refused(result, good["--listen"])
    assert option not in result.stderr


def test_every_upstream_needs_a_number_of_workers(good):
    del good["--max-workers"]
    result = run(*flatten(good), "--upstream", "/fpm.sock,max_workers=1")
    assert_refused(result, "--max-workers")


@pytest.mark.parametrize(
    ("upstreams", "workers"),
    [
        (["--upstream", "/a,max_workers=2"], 2),
        (["--upstream", "/a,max_workers=2", "--upstream", "/b,max_workers=5"], 7),
        (["--upstream", "/a,max_workers=2", "--upstream", "/b", "--max-workers", "4"], 6),
        (["--max-workers", "4", "--upstream", "/a", "--upstream", "/b"], 8),
    ],
)
def test_workers_of_all_upstreams_are_counted(workspace, upstreams, workers):
    deferd = Deferd(workspace.path("deferd.sock"), "unused")
    argv = [find_binary(), "--listen", workspace.path("deferd.sock"), *upstreams]
    deferd.argv = lambda: argv
    with deferd:
        count = upstreams.count("--upstream")
        assert deferd.ready_line.endswith(f", {count} upstream(s), {workers} workers")
