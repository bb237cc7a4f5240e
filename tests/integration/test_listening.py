"""Where deferd listens and connects to, and what becomes of the socket file."""

import os
import socket
import stat
import subprocess

import pytest
from harness import Address, Deferd, FcgiClient


def exchange(deferd, peer):
    with FcgiClient(deferd.address) as client:
        client.send_request(uri="/here")
        peer.accept_request().answer(b"from the peer")
        return client.read_response()


def run_again(listen, upstream="/nowhere"):
    """Starts a deferd that is expected to refuse."""
    return subprocess.run(Deferd(listen, upstream).argv(), capture_output=True, text=True,
                          timeout=10, check=False)


@pytest.mark.parametrize("form", ["{path}", "unix:{path}", "127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_serves_on_every_form_of_address(start_deferd, peer, workspace, form):
    deferd = start_deferd(peer, form.format(path=workspace.path("s")))
    assert exchange(deferd, peer).body == b"from the peer"
    assert deferd.address.port != 0 or deferd.address.path == workspace.path("s")


@pytest.mark.parametrize("form", ["{path}", "unix:{path}", "127.0.0.1:{port}", "localhost:{port}",
                                  "[::1]:{port}"])
def test_reaches_upstream_by_every_form_of_address(start_deferd, start_peer, form):
    listen = None if "path" in form else "[::1]:0" if "::1" in form else "127.0.0.1:0"
    peer = start_peer(listen)
    deferd = start_deferd(form.format(path=peer.address.path, port=peer.address.port))
    assert exchange(deferd, peer).body == b"from the peer"


@pytest.mark.parametrize(("option", "mode"), [(None, 0o660), ("0600", 0o600), ("0666", 0o666),
                                              ("660", 0o660)])
def test_socket_file_has_the_mode_asked_for_whatever_the_umask(start_deferd, peer, option, mode):
    umask = os.umask(0o027)
    try:
        deferd = start_deferd(peer, listen_mode=option)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat(deferd.address.path).st_mode) == mode


def test_stale_socket_file_is_replaced(start_deferd, peer, workspace):
    path = workspace.path("stale.sock")
    Address(path=path).listen().close()
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert exchange(start_deferd(peer, path), peer).complete


def test_socket_file_of_a_killed_deferd_is_replaced(start_deferd, peer, workspace):
    path = workspace.path("killed.sock")
    first = start_deferd(peer, path)
    first.expect_end()
    first.kill()
    assert exchange(start_deferd(peer, path), peer).complete


def test_live_socket_is_refused_and_goes_on(deferd, peer):
    result = run_again(deferd.address)
    assert result.returncode > 0
    assert deferd.address.path in result.stderr
    assert exchange(deferd, peer).complete


def test_live_socket_with_a_full_backlog_is_refused(workspace):
    path = workspace.path("full.sock")
    with Address(path=path).listen(backlog=0), Address(path=path).connect():
        result = run_again(path)
        assert result.returncode > 0
        assert os.path.exists(path)


def test_tcp_port_in_use_is_refused():
    with Address(host="127.0.0.1").listen() as sock:
        port = sock.getsockname()[1]
        result = run_again(f"127.0.0.1:{port}")
        assert result.returncode > 0
        assert str(port) in result.stderr


def test_file_that_is_no_socket_is_left_alone(workspace):
    path = workspace.write("precious", "data")
    result = run_again(path)
    assert result.returncode > 0
    assert path in result.stderr
    assert workspace.read("precious") == "data"


def test_missing_directory_is_reported(workspace):
    path = workspace.path("missing", "deferd.sock")
    result = run_again(path)
    assert result.returncode > 0
    assert path in result.stderr


def test_socket_file_goes_with_the_process(start_deferd, peer):
    deferd = start_deferd(peer)
    assert deferd.stop() == 0
    assert not os.path.exists(deferd.address.path)


def test_socket_file_of_a_successor_stays(start_deferd, peer):
    deferd = start_deferd(peer)
    os.unlink(deferd.address.path)
    with deferd.address.listen() as successor:
        assert deferd.stop() == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(successor.getsockname())


def test_both_standard_streams_may_be_closed(workspace, peer):
    """A service manager may start it with nothing but stderr open."""
    path = workspace.path("bare.sock")
    deferd = Deferd(path, peer.address, keepalive="no")
    closed = ["sh", "-c", 'exec "$@" <&- >&-', "sh", *deferd.argv()]
    deferd.argv = lambda: closed
    with deferd:
        assert exchange(deferd, peer).body == b"from the peer"
        peer.end()
