"""Towards the web server deferd is a conforming FastCGI responder."""

import pytest
from harness import DeadlinePassed, fcgi
from harness.client import encode_request, request_params

PARAMS = request_params(uri="/x?y=1", extra={"HTTP_X_LONG": "v" * 200, "EMPTY": ""})


def answer(client, peer, id=1, body=b"hello\n"):
    """What the peer got, after the client got its answer."""
    connection = peer.accept_request()
    connection.answer(body)
    response = client.read_response(id)
    assert response.complete
    assert (response.app_status, response.protocol_status) == (0, fcgi.REQUEST_COMPLETE)
    assert response.body == body
    return connection.request


def got(request):
    """The params of the web server: all but deferd's own, which comes last."""
    return request.pairs[:-1]


def as_pairs(params):
    return fcgi.decode_pairs(fcgi.encode_pairs(params))


def test_connection_closes_after_the_response_without_keep_conn(client, peer):
    client.send_request()
    answer(client, peer)
    assert client.read_record(timeout=1.0) is None
    assert client.closed_by == "eof"


def test_kept_connection_serves_one_request_after_the_other(client, peer):
    for number in range(1, 6):
        client.send_request(uri=f"/{number}", id=number, keep=True)
        assert answer(client, peer, number).uri == f"/{number}"
    client.send_request(uri="/last", keep=False)
    answer(client, peer)
    assert client.read_record(timeout=1.0) is None


@pytest.mark.parametrize("id", [1, 2, 255, 256, 32768, 65535])
def test_any_request_id_comes_back(client, peer, id):
    client.send_request(id=id)
    answer(client, peer, id)


@pytest.mark.parametrize("padding", [0, 1, 7, 255])
@pytest.mark.parametrize("chunk", [1, 2, 7, 8, 100, fcgi.MAX_CONTENT])
def test_records_of_any_size_and_padding(client, peer, chunk, padding):
    body = bytes(range(256)) * 20
    params = {**PARAMS, "CONTENT_LENGTH": str(len(body)), "REQUEST_METHOD": "POST"}
    client.send(encode_request(params, body, chunk=chunk, padding=padding))
    request = answer(client, peer)
    assert got(request) == as_pairs(params)
    assert request.stdin == body


def test_records_of_the_largest_size(client, peer):
    body = b"b" * (3 * fcgi.MAX_CONTENT)
    params = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(body)), "LARGE": "v" * 65000}
    client.send(encode_request(params, body, padding=255))
    request = answer(client, peer)
    assert got(request) == as_pairs(params)
    assert request.stdin == body


def test_long_form_of_every_length(client, peer):
    client.send(encode_request(PARAMS, long_form=True))
    assert got(answer(client, peer)) == as_pairs(PARAMS)


def test_request_that_arrives_byte_by_byte(client, peer):
    body = b"body"
    params = {**PARAMS, "CONTENT_LENGTH": "4", "REQUEST_METHOD": "POST"}
    client.send_pieces(encode_request(params, body, padding=3))
    request = answer(client, peer)
    assert got(request) == as_pairs(params)
    assert request.stdin == body


def test_request_cut_in_two_at_every_byte(client, peer):
    params = request_params("POST", "/cut", b"body")
    data = encode_request(params, b"body", keep=True, padding=2)
    for at in range(1, len(data)):
        client.send_split(data, at)
        request = answer(client, peer)
        assert got(request) == as_pairs(params)
        assert request.stdin == b"body"


def test_params_cut_into_two_records_at_every_byte(client, peer):
    pairs = fcgi.encode_pairs(PARAMS)
    for at in range(1, len(pairs)):
        client.begin(keep=True)
        client.record(fcgi.PARAMS, pairs[:at])
        client.record(fcgi.PARAMS, pairs[at:])
        client.record(fcgi.PARAMS)
        client.end_stdin()
        assert got(answer(client, peer)) == as_pairs(PARAMS)


@pytest.mark.parametrize("value", ["", "0"])
def test_content_length_may_be_empty_or_zero(client, peer, value):
    """nginx sends an empty one with every GET."""
    client.send_request(params={"CONTENT_LENGTH": value})
    answer(client, peer)


def test_body_without_content_length(client, peer):
    client.begin()
    client.params({"REQUEST_METHOD": "POST"})
    client.stdin(b"of unknown length")
    client.end_stdin()
    assert answer(client, peer).stdin == b"of unknown length"


def test_reserved_bits_and_bytes_are_ignored(client, peer):
    client.send(fcgi.header(fcgi.BEGIN_REQUEST, 1, 8, reserved=0xFF))
    client.send(b"\0\x01" + bytes([0xFF]) + b"\xAA" * 5)
    client.params(PARAMS)
    client.end_stdin()
    answer(client, peer)
    client.send_request()  # KEEP_CONN was among the flags
    answer(client, peer)


def test_get_values_is_answered(client, peer):
    names = ("FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS", "FCGI_UNHEARD_OF")
    values = client.get_values(*names)
    assert values[b"FCGI_MPXS_CONNS"] == b"0"
    assert int(values[b"FCGI_MAX_CONNS"]) >= 1
    assert int(values[b"FCGI_MAX_REQS"]) >= 1
    assert set(values) == {b"FCGI_MAX_CONNS", b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS"}
    client.send_request()
    answer(client, peer)


@pytest.mark.parametrize("names", [(), ("FCGI_MPXS_CONNS",), ("nothing",)])
def test_get_values_answers_what_was_asked_for(client, names):
    expected = {b"FCGI_MPXS_CONNS": b"0"} if "FCGI_MPXS_CONNS" in names else {}
    assert client.get_values(*names) == expected


def test_get_values_byte_by_byte_with_padding(client):
    pairs = fcgi.encode_pairs({"FCGI_MPXS_CONNS": ""}, long_form=True)
    client.send_pieces(fcgi.record(fcgi.GET_VALUES, 0, pairs, padding=9))
    record = client.read_record()
    assert (record.type, record.id) == (fcgi.GET_VALUES_RESULT, 0)
    assert fcgi.decode_pairs(record.content) == [(b"FCGI_MPXS_CONNS", b"0")]


def test_get_values_is_answered_while_a_request_runs(client, peer):
    client.send_request(keep=True)
    connection = peer.accept_request()
    assert client.get_values("FCGI_MPXS_CONNS") == {b"FCGI_MPXS_CONNS": b"0"}
    connection.answer()
    assert client.read_response().complete


def test_get_values_between_params_records(client, peer):
    pairs = fcgi.encode_pairs(PARAMS)
    client.begin()
    client.record(fcgi.PARAMS, pairs[:10])
    assert client.get_values("FCGI_MPXS_CONNS") == {b"FCGI_MPXS_CONNS": b"0"}
    client.record(fcgi.PARAMS, pairs[10:])
    client.record(fcgi.PARAMS)
    client.end_stdin()
    assert got(answer(client, peer)) == as_pairs(PARAMS)


@pytest.mark.parametrize("type", [12, 100, 255])
@pytest.mark.parametrize("length", [0, 8, 65535])
def test_unknown_management_record_is_answered(client, peer, type, length):
    client.record(type, b"?" * length, id=0, padding=5)
    record = client.read_record()
    assert (record.type, record.id, len(record.content)) == (fcgi.UNKNOWN_TYPE, 0, 8)
    assert record.content[0] == type
    client.send_request()
    answer(client, peer)


@pytest.mark.parametrize("role", [0, fcgi.AUTHORIZER, fcgi.FILTER, 4, 65535])
@pytest.mark.parametrize("rest", [False, True])
def test_other_roles_are_refused_and_the_connection_goes_on(client, peer, role, rest):
    """The web server may have sent the rest of that request before it heard of the refusal."""
    client.begin(7, role, keep=True)
    if rest:
        client.params(PARAMS, id=7)
        client.stdin(b"body", id=7)
        client.end_stdin(id=7)
    response = client.read_response(7)
    assert response.protocol_status == fcgi.UNKNOWN_ROLE
    assert response.stdout == b""
    client.send_request(id=7)
    answer(client, peer, 7)


def test_other_role_without_keep_conn_closes(client):
    client.begin(1, fcgi.FILTER)
    assert client.read_response().protocol_status == fcgi.UNKNOWN_ROLE
    assert client.read_record(timeout=1.0) is None


def test_second_request_on_a_busy_connection_is_refused_and_the_first_goes_on(client, peer):
    client.send_request(uri="/first", id=1, keep=True)
    connection = peer.accept_request()
    client.send_request("POST", "/second", b"body", id=2, keep=True)
    assert client.read_response(2).protocol_status == fcgi.CANT_MPX_CONN
    connection.answer(b"first")
    assert client.read_response(1).body == b"first"
    client.send_request(uri="/third", id=2)
    assert answer(client, peer, 2).uri == "/third"


def test_second_request_amid_the_params_of_the_first_is_refused(client, peer):
    pairs = fcgi.encode_pairs(PARAMS)
    client.begin(id=1, keep=True)
    client.record(fcgi.PARAMS, pairs[:10], id=1)
    client.begin(id=2, keep=True)
    assert client.read_response(2).protocol_status == fcgi.CANT_MPX_CONN
    client.record(fcgi.PARAMS, pairs[10:], id=1)
    client.record(fcgi.PARAMS, id=1)
    client.end_stdin(id=1)
    assert got(answer(client, peer)) == as_pairs(PARAMS)


def test_second_request_amid_the_body_of_the_first_is_refused(client, peer):
    client.start("POST", body_length=6, id=1, keep=True)
    client.stdin(b"abc", id=1)
    connection = peer.accept()
    connection.read_params()
    client.send_request("POST", "/second", b"xyz", id=2, keep=True)
    assert client.read_response(2).protocol_status == fcgi.CANT_MPX_CONN
    client.stdin(b"def", id=1)
    client.end_stdin(id=1)
    assert connection.read_stdin() == b"abcdef"
    connection.answer()
    assert client.read_response(1).complete


def test_body_that_comes_after_the_response_is_skipped(client, peer):
    """The application answered early; the web server was still sending."""
    client.start("POST", body_length=6, id=1, keep=True)
    client.stdin(b"abc")
    connection = peer.accept()
    connection.read_params()
    connection.answer(b"enough")
    assert client.read_response().body == b"enough"
    client.stdin(b"def")
    client.end_stdin()
    client.send_request(uri="/next", id=1)
    assert answer(client, peer).uri == "/next"


def test_abort_that_crosses_the_response_is_ignored(client, peer):
    client.send_request(keep=True)
    answer(client, peer)
    client.record(fcgi.ABORT_REQUEST)
    client.send_request(uri="/next", keep=True)
    assert answer(client, peer).uri == "/next"


def test_next_request_may_follow_while_the_last_is_deferred(client, peer):
    client.send_request(uri="/first", keep=True)
    first = peer.accept_request()
    first.answer_and_defer(b"first")
    assert client.read_response().body == b"first"
    client.send_request(uri="/second", keep=True)
    second = peer.accept_request()
    second.answer_and_defer(b"second")
    assert client.read_response().body == b"second"
    first.finish_tasks()
    second.finish_tasks()


def test_request_sent_together_with_the_one_before_is_not_lost(client, peer):
    """Both in one write: the second is refused as the first is under way, or served after it."""
    client.send(encode_request(request_params(uri="/a"), id=1, keep=True)
                + encode_request(request_params(uri="/b"), id=2, keep=True))
    connection = peer.accept_request()
    refused = client.read_response(2)
    assert refused.protocol_status == fcgi.CANT_MPX_CONN
    connection.answer(b"a")
    assert client.read_response(1).body == b"a"


def params_of_size(size):
    """Params that are encoded in exactly so many bytes."""
    params = {"REQUEST_METHOD": "GET", "FILL": "x" * 500}
    params["FILL"] += "x" * (size - len(fcgi.encode_pairs(params)))
    assert len(fcgi.encode_pairs(params)) == size
    return params


@pytest.mark.parametrize("limit", [None, 2000])
@pytest.mark.parametrize("chunk", [100, fcgi.MAX_CONTENT])
def test_params_beyond_the_limit_get_431(start_deferd, connect, peer, limit, chunk):
    deferd = start_deferd(peer, max_params=limit)
    size = limit or 65536
    client = connect(deferd)
    client.send(encode_request(params_of_size(size), keep=True, chunk=chunk))
    answer(client, peer)
    client.send(encode_request(params_of_size(size + 1), b"body", keep=True, chunk=chunk))
    response = client.read_response()
    assert (response.status, response.complete) == (431, True)
    client.send_request(uri="/next")
    assert answer(client, peer).uri == "/next"
    deferd.wait_for_request(status=431, outcome="rejected")
    assert deferd.wait_for_cause("param")


def test_params_without_an_end_get_431_at_the_limit(start_deferd, connect, peer):
    client = connect(start_deferd(peer, max_params=2000))
    client.begin()
    client.record(fcgi.PARAMS, fcgi.encode_pairs({"FILL": "x" * 3000}))
    assert client.read_response().status == 431


def test_param_too_long_for_any_record_gets_431(start_deferd, connect, peer):
    client = connect(start_deferd(peer, max_params=200000))
    client.send_request(params={"FILL": "x" * 65600})
    assert client.read_response().status == 431


def test_connection_on_which_nothing_comes_stays_open(client):
    with pytest.raises(DeadlinePassed):
        client.read_record(timeout=0.2)
