"""What deferd relies on in php-fpm, checked without deferd: when one of these fails, so will it."""

import socket

import pytest
from harness import Address, DeadlinePassed, FcgiClient, fcgi, wait_until
from harness.client import encode_request, request_params


@pytest.fixture(name="hello")
def fixture_hello(script):
    return {"script": script("hello.php"), "uri": "/hello.php"}


def test_worker_waits_after_the_end_until_the_peer_closes(start_fpm, hello):
    fpm = start_fpm(workers=1)
    with FcgiClient(fpm.address) as first, FcgiClient(fpm.address) as second:
        assert first.request(**hello).complete
        second.send_request(**hello)
        with pytest.raises(DeadlinePassed):
            second.read_record(timeout=0.2)
        first.close()
        assert second.read_response().complete


def test_idle_kept_connection_holds_its_worker(start_fpm, hello):
    fpm = start_fpm(workers=1)
    with FcgiClient(fpm.address) as first, FcgiClient(fpm.address) as second:
        assert first.request(**hello, keep=True).complete
        second.send_request(**hello)
        with pytest.raises(DeadlinePassed):
            second.read_record(timeout=0.2)
        first.close()
        assert second.read_response().complete


def test_last_of_a_repeated_param_wins(shared_fpm, script):
    with FcgiClient(shared_fpm.address) as client:
        params = {"SCRIPT_FILENAME": script("params.php"), "REQUEST_METHOD": "GET",
                  "DEFERD_TOKEN": "forged"}
        client.begin()
        client.send(fcgi.record(fcgi.PARAMS, content=fcgi.encode_pairs(params)))
        client.send(fcgi.stream(fcgi.PARAMS, 1, fcgi.encode_pair("DEFERD_TOKEN", "real")))
        client.end_stdin()
        assert b"\nDEFERD_TOKEN=real\n" in client.read_response().body


def test_pair_must_not_cross_records(shared_fpm, script):
    params = {"SCRIPT_FILENAME": script("params.php"), "REQUEST_METHOD": "GET",
              "CROSSING": "x" * 100}
    for chunk, arrives in ((fcgi.MAX_CONTENT, True), (30, False)):
        with FcgiClient(shared_fpm.address) as client:
            client.send(encode_request(params, chunk=chunk))
            assert (b"\nCROSSING=x" in client.read_response().stdout) == arrives


def test_head_drops_all_output_after_the_headers(shared_fpm, hello):
    with FcgiClient(shared_fpm.address) as client:
        response = client.request("HEAD", **hello)
        assert response.status == 200
        assert response.body == b""


def test_full_unix_backlog_says_so_at_once(workspace):
    address = Address.parse(workspace.path("full.sock"))
    with address.listen(backlog=0):
        with address.connect(), socket.socket(socket.AF_UNIX) as second:
            second.setblocking(False)
            with pytest.raises(BlockingIOError):
                second.connect(address.path)


def test_client_that_left_goes_unnoticed_until_the_script_writes(
    shared_fpm, script, gate, workspace
):
    marks = workspace.path("marks")
    client = FcgiClient(shared_fpm.address)
    uri = f"/aborted.php?gate={gate.path}&marks={marks}"
    client.send_request(uri=uri, script=script("aborted.php"))
    wait_for_marks(workspace, "started")
    client.close()
    gate.open()
    wait_for_marks(workspace, "started", "woke", "shutdown")


BARRIER = fcgi.record(fcgi.GET_VALUES, 0, fcgi.encode_pairs({"FCGI_MPXS_CONNS": ""}))


@pytest.mark.parametrize("barriers", [0, 1, 2])
def test_worker_that_is_to_end_leaves_a_request_behind_a_barrier(start_fpm, hello, barriers):
    """It answers the first barrier, then looks whether it is to end; without one it runs the request."""
    fpm = start_fpm(workers=1, options={"process_control_timeout": "10s"})
    with FcgiClient(fpm.address) as client:
        pid = int(client.request(**hello, keep=True).headers["x-pid"])
        fpm.tell_to_end(pid)
        params = request_params("POST", script=hello["script"])
        client.send(BARRIER * barriers + encode_request(params))
        types = [record.type for record in client.read_records_until_closed()]
        if barriers == 0:
            assert types == [fcgi.STDOUT, fcgi.END_REQUEST]
        else:
            assert types == [fcgi.GET_VALUES_RESULT]
            assert client.closed_by == "reset", "the kernel's word that something was left unread"


def wait_for_marks(workspace, *expected):
    wait_until(lambda: workspace.lines("marks") == list(expected), what=f"marks {expected}")
