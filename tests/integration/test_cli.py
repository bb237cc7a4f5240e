"""The command line."""

import re
import subprocess

import pytest
from harness.daemon import find_binary

OPTIONS = ["--listen", "--upstream", "--max-workers", "--log-level", "--listen-mode",
           "--max-params", "--help", "--version"]


def run(*arguments):
    result = subprocess.run([find_binary(), *arguments], capture_output=True, text=True, timeout=10,
                            check=False)
    assert "Sanitizer" not in result.stderr
    return result


def test_help_names_every_option():
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for option in OPTIONS:
        assert option in result.stdout


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
