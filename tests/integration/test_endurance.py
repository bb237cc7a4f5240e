"""Ten thousand requests of every kind: descriptors and memory are where they were."""

import pytest
from harness import FcgiClient
from harness.daemon import sanitized

REQUESTS = 10000


def drive(deferd, script, marks, count):
    """A mixture, most of it on kept connections."""
    client = FcgiClient(deferd.address)
    for number in range(count):
        kind = number % 10
        if kind < 5:
            options = {"script": script("hello.php"), "keep": True}
        elif kind < 7:
            query = {"QUERY_STRING": f"tasks=ok&marks={marks}"}
            options = {"script": script("tasks.php"), "params": query, "keep": True}
        elif kind == 7:
            options = {"script": script("hello.php"), "method": "HEAD", "keep": True}
        elif kind == 8:
            options = {"script": script("echo.php"), "method": "POST", "body": b"x" * 3000,
                       "keep": True}
        else:
            options = {"script": script("missing.php")}
        response = client.request(uri=f"/{kind}", **options)
        assert response.complete
        assert response.status == (404 if kind == 9 else 200)
        if kind == 9:
            client.close()
            if number % 100 == 99:  # and one that is gone before its answer
                with FcgiClient(deferd.address) as leaver:
                    leaver.send_request(script=script("hello.php"))
            if number % 100 == 49:  # one that is no FastCGI
                with FcgiClient(deferd.address) as stranger:
                    stranger.send(b"GET / HTTP/1.0\r\n\r\n")
                    stranger.wait_closed()
            client = FcgiClient(deferd.address)
    client.close()


@pytest.mark.time_limit(60)
def test_descriptors_and_memory_are_back_after_ten_thousand_requests(
    start_deferd, shared_fpm, script, workspace
):
    deferd = start_deferd(shared_fpm)
    marks = workspace.path("marks")
    before = deferd.fds_at_rest()
    drive(deferd, script, marks, 1000)
    deferd.wait_for_fds(before)
    warm = deferd.anonymous_kb()
    drive(deferd, script, marks, REQUESTS)
    deferd.wait_for_fds(before)
    assert len(workspace.lines("marks")) == (REQUESTS + 1000) // 5
    if not sanitized():
        assert deferd.anonymous_kb() - warm <= 128
    requests = deferd.wait_for_requests((REQUESTS + 1000) * 101 // 100)
    outcomes = {request.outcome for request in requests}
    assert outcomes <= {"answered", "completed", "unreported", "client_gone"}
    assert sum(request.outcome == "completed" for request in requests) == (REQUESTS + 1000) // 5


@pytest.mark.time_limit(60)
def test_descriptors_and_memory_are_back_after_failures(start_deferd, start_peer):
    """The ways a request can break, some thousand times."""
    peer = start_peer()
    deferd = start_deferd(peer, max_workers=1)
    before = deferd.fds()

    def nothing(connection):
        connection.read_request()

    def part_of_the_headers(connection):
        connection.read_request()
        connection.stdout(b"X-A: " + b"b" * 3000)

    def part(connection):
        connection.read_request()
        connection.stdout(b"X-A: b\r\n\r\npart")

    def nonsense(connection):
        connection.read_request()
        connection.send(b"\xff" * 64)

    def lost(connection):
        connection.read_request()
        connection.answer_and_defer(tasks=["n" * 50] * 50)

    kinds = [nothing, part_of_the_headers, part, nonsense, lost]

    def once(count):
        for number in range(count):
            with FcgiClient(deferd.address) as client:
                client.send_request("POST", f"/{number}", b"x" * 500)
                kind = kinds[number % len(kinds)]
                peer.serve(kind, 1)
                assert client.read_response().complete != (kind is part)

    once(400)
    deferd.wait_for_fds(before)
    warm = deferd.anonymous_kb()
    once(4000)
    deferd.wait_for_fds(before)
    if not sanitized():
        assert deferd.anonymous_kb() - warm <= 128
