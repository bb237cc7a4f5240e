"""An answer that comes before the request's body is complete."""

import pathlib

from harness import fcgi

SCRIPT = str(pathlib.Path(__file__).resolve().parent / "php" / "unread.php")


def test_marker_before_the_body_leaves_no_worker_waiting_for_the_rest(
    start_deferd, shared_fpm, connect
):
    """PHP reads what is left of a PUT's body at the request's end, for as long as it takes."""
    deferd = start_deferd(shared_fpm, max_workers=1)
    for _ in range(2):
        client = connect(deferd)
        client.start("PUT", "/unread", body_length=1000000, script=SCRIPT)
        client.stdin(b"only the beginning of it")
        assert client.read_response().body == b"done"
    for request in deferd.wait_for_requests(2):
        assert (request.status, request.outcome) == (200, "completed")


def test_marker_before_the_body_ends_the_upstream_body(deferd, peer, client):
    client.start("PUT", "/unread", body_length=100)
    client.stdin(b"some")
    connection = peer.accept()
    connection.read_params()
    connection.stdout(b"Content-Type: text/plain\r\n\r\ndone")
    connection.marker()
    assert client.read_response().body == b"done"
    stdin = [r.content for r in connection.read_records_until_closed() if r.type == fcgi.STDIN]
    assert b"".join(stdin) == b"some"
    connection.end()
    assert deferd.wait_for_request("/unread").outcome == "unreported"
