"""FastCGI as others wrote it: libfcgi's responder behind deferd, its cgi-fcgi client in front."""

import hashlib
import os
import pathlib
import shutil
import subprocess

import pytest
from harness import Background, Workspace
from harness.process import Process

SOURCE = pathlib.Path(__file__).resolve().parent / "fcgx_responder.c"


class Responder(Process):
    """The FCGX application."""

    name = "fcgx_responder"

    def __init__(self, program, path):
        super().__init__()
        self._program = program
        self.address = path

    def __enter__(self):
        self.spawn([self._program, self.address])
        self.wait_for_line("ready")
        return self

    def __exit__(self, *exc_info):
        self.end()


@pytest.fixture(name="program", scope="module")
def fixture_program():
    with Workspace() as workspace:
        program = workspace.path("fcgx_responder")
        compiler = os.environ.get("CC", "cc").split()
        argv = [*compiler, "-Wall", "-Wextra", "-o", program, str(SOURCE), "-lfcgi"]
        subprocess.run(argv, check=True)
        yield program


@pytest.fixture(name="responder")
def fixture_responder(workspace, program):
    return workspace.enter(Responder(program, workspace.path("fcgx.sock")))


@pytest.fixture(name="client")
def fixture_client(start_deferd, connect, responder):
    return connect(start_deferd(responder, max_workers=1))


def test_fcgx_sees_the_params_and_the_token(client):
    response = client.request(uri="/a?params", params={"HTTP_X": "y" * 300, "EMPTY": ""})
    lines = response.body.decode().splitlines()
    assert "HTTP_X=" + "y" * 300 in lines
    assert "EMPTY=" in lines
    assert lines[-1].startswith("DEFERD_TOKEN=")
    assert response.complete


@pytest.mark.parametrize("size", [0, 1, 65535, 1 << 20])
def test_fcgx_echoes_byte_for_byte(client, size):
    body = os.urandom(size)
    sending = Background(client.send_request, "POST", "/?echo", body)
    response = client.read_response()
    sending.result()
    assert (response.body, response.complete) == (body, True)


def test_fcgx_serves_one_request_after_the_other(client):
    for _ in range(50):
        assert client.request(uri="/a?params", keep=True).complete


def test_fcgx_error_stream_and_status(client):
    response = client.request(uri="/?error")
    assert (response.status, response.stderr) == (500, b"a complaint")
    assert (response.body, response.app_status) == (b"no luck\n", 3)


def test_fcgx_defers(start_deferd, connect, responder, gate):
    deferd = start_deferd(responder, max_workers=1)
    client = connect(deferd)
    response = client.request(uri="/?defer", params={"GATE": gate.path})
    assert (response.body, response.complete) == (b"answered by %d\n" % responder.pid, True)
    assert deferd.requests == []
    gate.open()
    request = deferd.wait_for_request("/?defer")
    assert (request.outcome, request.done, request.pid) == ("completed", 1, responder.pid)


def cgi_fcgi(deferd, body=b"", **environment):
    program = shutil.which("cgi-fcgi")
    assert program, "cgi-fcgi is not installed (libfcgi-bin)"
    argv = [program, "-bind", "-connect", str(deferd.address)]
    environment = {"GATEWAY_INTERFACE": "CGI/1.1", **environment}
    return subprocess.run(argv, input=body, timeout=10, capture_output=True, check=False,
                          env=environment)


def test_cgi_fcgi_reaches_php(start_deferd, shared_fpm, script):
    deferd = start_deferd(shared_fpm)
    result = cgi_fcgi(deferd, REQUEST_METHOD="GET", SCRIPT_FILENAME=script("hello.php"))
    assert result.returncode == 0
    assert result.stdout.endswith(b"\r\n\r\nhello\n")
    assert deferd.wait_for_requests(1)[0].outcome == "answered"


def test_cgi_fcgi_uploads(start_deferd, shared_fpm, script):
    """Its way back is kept short: cgi-fcgi 2.4.2 loses its place in a long response unless the
    records are as large as php-fpm writes them."""
    deferd = start_deferd(shared_fpm)
    body = os.urandom(300000)
    result = cgi_fcgi(deferd, body, REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(body)),
                      SCRIPT_FILENAME=script("digest.php"))
    assert result.stdout.partition(b"\r\n\r\n")[2].decode() == hashlib.sha256(body).hexdigest()


def test_cgi_fcgi_has_its_answer_before_the_deferred_work_ends(
    start_deferd, shared_fpm, script, gate, workspace
):
    deferd = start_deferd(shared_fpm)
    marks = workspace.path("marks")
    result = cgi_fcgi(deferd, REQUEST_METHOD="GET", SCRIPT_FILENAME=script("kinds.php"),
                      REQUEST_URI="/k", QUERY_STRING=f"kind=plain&gate={gate.path}&marks={marks}")
    assert result.stdout.endswith(b"\r\n\r\na plain body\n")
    assert workspace.read("marks") == ""
    gate.open()
    assert deferd.wait_for_request("/k").outcome == "completed"


def test_cgi_fcgi_exit_status_is_the_applications(start_deferd, responder):
    deferd = start_deferd(responder)
    result = cgi_fcgi(deferd, REQUEST_METHOD="GET", QUERY_STRING="error")
    assert result.stderr == b"a complaint"
    assert b"no luck" in result.stdout


def test_cgi_fcgi_gets_the_502_page(start_deferd, workspace):
    deferd = start_deferd(workspace.path("nobody.sock"))
    result = cgi_fcgi(deferd, REQUEST_METHOD="GET")
    assert result.stdout.startswith(b"Status: 502 ")
