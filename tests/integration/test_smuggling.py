"""Requests hidden in the body of another (fact 7): with KEEP_CONN php-fpm runs them.

Not behind deferd. PHP 8.2.36 has a remedy of its own (CVE-2026-129289); with an older php-fpm
(PHP_FPM_BIN) the same attacks are seen to succeed without deferd.
"""

import re
from dataclasses import dataclass

import pytest
from harness import FcgiClient, Fpm, wait_until
from harness.client import encode_request, request_params

BLOCK = 8192
"""A script reads php://input in blocks of this size: what it leaves unread begins behind one."""

LIMITS = {"post_max_size": "8K"}


@dataclass(frozen=True)
class Attack:
    """A request whose body is longer than what PHP reads of it."""

    method: str
    script: str
    length: int = None
    """CONTENT_LENGTH, if it is not the body's."""
    after: int = 0
    """Where in each block of the body the hidden request stands."""


ATTACKS = {
    "only a part of it is read": Attack("PUT", "part.php"),
    "it is over post_max_size": Attack("POST", "part.php"),
    "it is longer than CONTENT_LENGTH": Attack("POST", "hello.php", length=10, after=10),
}


@pytest.fixture(name="attack", params=ATTACKS.values(), ids=ATTACKS)
def fixture_attack(request):
    return request.param


@pytest.fixture(name="fpm")
def fixture_fpm(start_fpm):
    """One worker: what an attack leaves behind, the next request meets."""
    return start_fpm(workers=1, ini=LIMITS)


def hidden_by_script(script, trace):
    """Runs a script of the attacker's choice."""
    return request_params(script=script("trace.php"), extra={"DEFERD_TEST_TRACE": trace})


def hidden_by_setting(script, trace):
    """Runs it in front of a harmless one; the setting stays in the worker."""
    return request_params(script=script("hello.php"), extra={
        "PHP_ADMIN_VALUE": f"auto_prepend_file={script('trace.php')}", "DEFERD_TEST_TRACE": trace
    })


@pytest.fixture(name="hidden", params=[hidden_by_script, hidden_by_setting],
                ids=lambda function: function.__name__)
def fixture_hidden(request, script, workspace):
    params = request.param(script, workspace.path("trace"))
    return encode_request(params, keep=True)


def attack_with(client, attack, hidden, script):
    """Sends it, as a web server with kept connections would."""
    block = (b"x" * attack.after + hidden).ljust(BLOCK, b"x")
    length = attack.length or 3 * BLOCK
    params = request_params(attack.method, script=script(attack.script),
                            extra={"CONTENT_LENGTH": str(length)})
    client.send(encode_request(params, block * 3, keep=True))


def has_remedy():
    """Has this php-fpm the remedy? Skips the test if nobody has looked."""
    version = tuple(int(number) for number in re.findall(r"\d+", Fpm.version())[:3])
    if version >= (8, 3):
        pytest.skip("it is not known which of the later versions have it")
    return version >= (8, 2, 36)


def test_php_fpm_alone_runs_what_is_hidden(fpm, attack, hidden, script, workspace):
    remedy = has_remedy()
    with FcgiClient(fpm.address) as client:
        attack_with(client, attack, hidden, script)
        assert client.read_response().status == 200
        if not remedy:
            wait_until(lambda: workspace.lines("trace"), what="the attack's success")
    fpm.end()
    assert bool(workspace.lines("trace")) != remedy


def test_behind_deferd_it_is_not_run(fpm, start_deferd, connect, attack, hidden, script, workspace):
    deferd = start_deferd(fpm, max_workers=1, log_level="debug")
    deferd.wait_for_line("connections can be kept")
    client = connect(deferd)
    for number in range(5):
        attack_with(client, attack, hidden, script)
        assert client.read_response().status == 200
        for method in ("GET", "POST"):
            uri = f"/{method}/{number}"
            params = {"DEFERD_TEST_TRACE": workspace.path("trace")}
            answer = client.request(method, uri, script=script("hello.php"), params=params, keep=True)
            assert (answer.status, answer.body) == (200, b"hello\n")
            assert deferd.wait_for_request(uri).outcome == "answered"
    assert deferd.stop() == 0
    fpm.end()
    assert not workspace.lines("trace")
