"""Mutated and random bytes from both sides, with a fixed seed: no crash, no hang, nothing left."""

import os
import random
import threading

import pytest
from harness import DeadlinePassed, FcgiClient, fcgi
from harness.client import encode_request, request_params
from harness.daemon import sanitized

SEED = int(os.environ.get("DEFERD_SOAK_SEED", "20261121"))
ROUNDS = int(os.environ.get("DEFERD_SOAK_ROUNDS", "400" if sanitized() else "1500"))


def mutate(rng, data):
    """A few changes of the kinds that parsers get wrong."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.choice((0, 1, 2, 127, 128, 254, 255))
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif kind == 3:
            del data[at:at + rng.randrange(1, 30)]
        elif kind == 4:
            data[at:at] = data[at:at + rng.randrange(1, 100)]
        elif kind == 5:
            data[at:at] = fcgi.record(rng.randrange(0, 13), rng.choice((0, 1, 1, 2)),
                                      rng.randbytes(rng.randrange(0, 20)), rng.randrange(0, 9))
        elif kind == 6:
            del data[at:]
        else:
            data[at:at] = fcgi.header(rng.randrange(0, 13), 1, rng.randrange(0, 65536),
                                      rng.randrange(256))
    return bytes(data)


def good_request(rng):
    body = rng.randbytes(rng.choice((0, 0, 1, 50, 3000)))
    method = rng.choice(("GET", "HEAD", "POST"))
    params = request_params(method, f"/{rng.randrange(1000)}", body,
                            extra={"X": "v" * rng.randrange(300)})
    return encode_request(params, body, rng.choice((1, 1, 2, 300)), rng.random() < 0.5,
                          chunk=rng.choice((7, 100, 65535)), padding=rng.choice((0, 0, 1, 8, 255)))


def good_answer(rng, request):
    head = rng.choice((b"Content-Type: text/plain\r\n\r\n", b"Status: 404\r\nX-A: b\n\n"))
    stdout = head + rng.randbytes(rng.choice((0, 10, 3000)))
    if rng.random() < 0.5:
        stdout += fcgi.marker(request.params.get("DEFERD_TOKEN", "0" * 32))
        stdout += b'{"event":"begin","pid":7,"tasks":["a","b"]}\n{"event":"start","task":0}\n'
        stdout += b'{"event":"done","task":0,"ms":1.5}\n{"event":"add","tasks":["c"]}\n'
        stdout += b'{"event":"fail","task":1,"ms":0,"error":"E: no"}\n{"event":"end"}\n'
    size = rng.choice((1, 10, 500, 65535))
    records = [fcgi.record(fcgi.STDOUT, request.id, stdout[at:at + size], rng.choice((0, 0, 3)))
               for at in range(0, len(stdout), size)]
    records.insert(rng.randrange(len(records) + 1), fcgi.record(fcgi.STDERR, request.id, b"note"))
    return b"".join(records) + fcgi.end_request(request.id)


def send_roughly(rng, connection, data):
    """In a few pieces; the other end may close before all is out."""
    try:
        while data:
            size = rng.choice((1, 8, 100, 100000))
            connection.send(data[:size])
            data = data[size:]
            if rng.random() < 0.2 and size < 100000:
                connection.wait_read()
    except OSError:
        pass


class Application(threading.Thread):
    """Answers whatever arrives, as well as it can; answer(connection) decides how."""

    def __init__(self, peer, answer):
        super().__init__(daemon=True)
        self._peer = peer
        self._answer = answer
        self._stopped = threading.Event()
        self.start()

    def run(self):
        while not self._stopped.is_set():
            try:
                connection = self._peer.accept(0.05)
            except DeadlinePassed:
                continue
            try:
                connection.read_request()
                self._answer(connection)
            except (OSError, AssertionError, ValueError):
                pass  # the client was cut off, or is broken on purpose
            finally:
                connection.close()

    def stop(self):
        self._stopped.set()
        self.join(10.0)
        assert not self.is_alive()


@pytest.fixture(name="answering")
def fixture_answering(peer, releases):
    """answering(function): an Application on the peer, stopped before the peer goes."""

    def start(answer):
        application = Application(peer, answer)
        releases.append(application.stop)
        return application

    return start


def assert_still_serves(deferd, before):
    with FcgiClient(deferd.address) as client:
        client.send_request(uri="/after")
        assert client.read_response().complete
    assert deferd.running
    deferd.wait_for_fds(before)


@pytest.mark.time_limit(90)
def test_mutated_requests(start_deferd, peer, answering):
    deferd = start_deferd(peer, max_workers=8)
    before = deferd.fds()
    rng = random.Random(SEED)
    application = answering(lambda connection: connection.answer(b"fine"))
    for number in range(ROUNDS):
        with FcgiClient(deferd.address) as client:
            send_roughly(rng, client, mutate(rng, good_request(rng)))
            if number % 4 == 0:
                try:
                    client.read_records_until_closed(timeout=0.02)
                except DeadlinePassed:
                    pass  # it waits for more, and rightly
    assert_still_serves(deferd, before)
    application.stop()


@pytest.mark.time_limit(90)
def test_random_bytes_as_requests(start_deferd, peer, answering):
    deferd = start_deferd(peer, max_workers=8)
    before = deferd.fds()
    rng = random.Random(SEED + 1)
    application = answering(lambda connection: connection.answer(b"fine"))
    for _ in range(ROUNDS):
        with FcgiClient(deferd.address) as client:
            data = rng.randbytes(rng.randrange(1, 400))
            if rng.random() < 0.8:  # past the first check
                data = fcgi.begin_request(1) + b"\x01" + bytes([rng.randrange(1, 12)]) + data
            send_roughly(rng, client, data)
    assert_still_serves(deferd, before)
    application.stop()


@pytest.mark.time_limit(90)
def test_several_good_and_bad_requests_on_one_connection(start_deferd, peer, answering):
    deferd = start_deferd(peer, max_workers=8)
    before = deferd.fds()
    rng = random.Random(SEED + 2)
    application = answering(lambda connection: connection.answer(b"fine"))
    for _ in range(ROUNDS // 5):
        with FcgiClient(deferd.address) as client:
            for _ in range(rng.randrange(1, 6)):
                params = request_params(uri="/good")
                send_roughly(rng, client, encode_request(params, keep=True))
                if rng.random() < 0.5:
                    try:
                        client.read_response(timeout=0.02)
                    except (AssertionError, OSError):
                        pass
            send_roughly(rng, client, mutate(rng, good_request(rng)))
    assert_still_serves(deferd, before)
    application.stop()


@pytest.mark.time_limit(90)
def test_mutated_answers(start_deferd, peer, answering):
    """The client always sees an end: the peer always closes."""
    deferd = start_deferd(peer, max_workers=8)
    before = deferd.fds()
    rng = random.Random(SEED + 3)

    def answer(connection):
        if connection.request.uri == "/after":
            connection.answer()
        else:
            send_roughly(rng, connection, mutate(rng, good_answer(rng, connection.request)))

    application = answering(answer)
    for number in range(ROUNDS):
        with FcgiClient(deferd.address, timeout=5.0) as client:
            method = ("GET", "HEAD", "POST")[number % 3]
            client.send_request(method, f"/{number}", b"x" * (number % 50))
            if number % 10:
                client.read_response()
    assert_still_serves(deferd, before)
    application.stop()


@pytest.mark.time_limit(90)
def test_random_bytes_as_answers_and_reports(start_deferd, peer, answering):
    deferd = start_deferd(peer, max_workers=8)
    before = deferd.fds()
    rng = random.Random(SEED + 4)
    words = [b'{"event":', b'"begin"', b'"done"', b'"end"', b'"task":', b'"tasks":', b'"a"', b"[",
             b"]", b"}", b",", b"\n", b"\0", b"\xff", b'"\\u0000"', b"1", b"-1", b"1e999",
             b"99999999999999999999", b"x" * 9000]

    def answer(connection):
        if connection.request.uri == "/after":
            return connection.answer()
        if rng.random() < 0.5:
            return send_roughly(rng, connection, rng.randbytes(rng.randrange(1, 300)))
        connection.answer_and_defer()
        for _ in range(rng.randrange(1, 5)):
            connection.stdout(b"".join(rng.choices(words, k=rng.randrange(1, 12))))
        if rng.random() < 0.5:
            connection.end()
        return None

    application = answering(answer)
    for number in range(ROUNDS):
        with FcgiClient(deferd.address, timeout=5.0) as client:
            client.send_request(uri=f"/{number}")
            client.read_response()
    assert_still_serves(deferd, before)
    application.stop()
