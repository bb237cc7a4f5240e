"""The nginx configuration that users copy, as it is but for the port, the root and the socket."""

import os
import pathlib
import shutil

import pytest
from harness import Nginx, wait_until

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "nginx"


@pytest.fixture(name="start_example")
def fixture_start_example(workspace, start_deferd, shared_fpm):
    """start_example(name): nginx with one of the files in nginx/, and the deferd behind it."""

    def start(name):
        deferd = start_deferd(shared_fpm, workspace.path("deferd.sock"))
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        for old, new in (("/run/deferd/deferd.sock", deferd.address.path),
                         ("/srv/example/public", str(pathlib.Path(__file__).parent / "php"))):
            assert old in text
            text = text.replace(old, new)
        directory = workspace.make_directory("nginx")
        shutil.copy("/etc/nginx/fastcgi_params", directory)
        nginx = workspace.enter(Nginx(workspace, deferd.address, directory, servers=text))
        return nginx, deferd

    return start


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.conf")))
def test_example_serves_php(start_example, name):
    nginx, deferd = start_example(name)
    for _ in range(10):
        assert nginx.get("/hello.php").text == "hello\n"
    body = os.urandom(200000)
    assert nginx.post("/echo.php", body).body == body
    assert nginx.head("/hello.php").status == 200
    assert {request.status for request in deferd.wait_for_requests(12)} == {200}


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.conf")))
def test_example_answers_before_the_deferred_work_ends(start_example, name, gate, workspace):
    nginx, deferd = start_example(name)
    query = f"kind=plain&gate={gate.path}&marks={workspace.path('marks')}"
    assert nginx.get(f"/kinds.php?{query}").text == "a plain body\n"
    assert workspace.read("marks") == ""
    gate.open()
    assert deferd.wait_for_requests(1)[0].outcome == "completed"


def test_there_are_examples():
    names = {path.name for path in EXAMPLES.glob("*.conf")}
    assert names >= {"deferd.conf", "deferd-keepalive.conf"}


def test_example_with_keepalive_keeps_its_connection(start_example):
    nginx, deferd = start_example("deferd-keepalive.conf")
    assert nginx.get("/hello.php").status == 200
    wait_until(lambda: deferd.sockets() == 2, what="the listener and one kept connection")
    for _ in range(20):
        assert nginx.get("/hello.php").status == 200
    wait_until(lambda: deferd.sockets() == 2, what="the listener and one kept connection")
