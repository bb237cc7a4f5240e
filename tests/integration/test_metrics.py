"""metrics.listen: plain HTTP for Prometheus alone."""

import pathlib
import re
import subprocess
import time

import pytest
from harness import Address, Background, FcgiClient, wait_until
from harness.daemon import REPOSITORY, find_binary, sanitized
from harness.exposition import Metrics, parse
from harness.master import Master
from harness.wire import Connection

OUTCOMES = re.findall(r'X\(OUTCOME_\w+, "(\w+)"',
                      (REPOSITORY / "include/deferd/outcome.h").read_text(encoding="utf-8"))


class Scraped:
    """The HTTP side of a deferd."""

    def __init__(self, deferd, releases):
        self.deferd = deferd
        self._releases = releases
        url = deferd.wait_for_line(r"metrics at http://(\S+)/metrics")[1]
        self.address = Address.parse(url)

    def connect(self):
        connection = Connection(self.address.connect())
        self._releases.append(connection.close)
        return connection

    def raw(self, data):
        """Everything that comes back for these bytes."""
        with Connection(self.address.connect()) as connection:
            connection.send(data)
            return self.read(connection)

    @staticmethod
    def read(connection):
        parts = []
        while data := connection.read_bytes():
            parts.append(data)
        return b"".join(parts)

    def get(self, target="/metrics", headers="", method="GET"):
        """Status, headers and body of an answer."""
        answer = self.raw(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(first.split()[1]), fields, body.decode()

    def metrics(self):
        status, _, body = self.get()
        assert status == 200
        return Metrics(body)


@pytest.fixture(name="start_scraped")
def fixture_start_scraped(start_deferd, releases):
    """start_scraped(upstream, …): a deferd with metrics.listen."""

    def start(upstream, arguments=(), listen="127.0.0.1:0", **options):
        arguments = ["--metrics-listen", listen, *arguments]
        return Scraped(start_deferd(upstream, arguments=arguments, **options), releases)

    return start


@pytest.fixture(name="scraped")
def fixture_scraped(start_scraped, peer):
    return start_scraped(peer, max_workers=2)


# --- HTTP --------------------------------------------------------------------------------------


def test_answer_closes_and_says_what_it_is(scraped):
    status, fields, body = scraped.get()
    assert status == 200
    assert fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (fields["connection"], int(fields["content-length"])) == ("close", len(body))
    assert parse(body)


def test_openmetrics_for_those_who_accept_it(scraped):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"
    _, fields, body = scraped.get(headers=accept)
    assert fields["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in text_string_to_metric_families(body)}
    plain = parse(scraped.get()[2])
    assert {re.sub("_total$", "", name) for name in plain} == set(families)
    assert {name: families[re.sub("_total$", "", name)].type for name in plain} == {
        name: family.type for name, family in plain.items()}
    _, fields, _ = scraped.get(headers="X-Accept: application/openmetrics-text\r\n")
    assert fields["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [("GET", "/", 200), ("HEAD", "/metrics", 200), ("GET", "/metrics?x=1", 200),
     ("GET", "/other", 404), ("GET", "/metrics/", 404), ("GET", "//metrics", 404),
     ("GET", "/" + "x" * 3000, 404), ("POST", "/metrics", 405), ("DELETE", "/", 405),
     ("get", "/metrics", 405), ("OPTIONS", "/nowhere", 405), ("GET", "metrics", 400),
     ("GET", "http://x/metrics", 400), ("GET", "/metrics x", 400)],
)
def test_what_is_answered(scraped, method, target, expected):
    status, fields, body = scraped.get(target, method=method)
    assert status == expected
    assert ("allow" in fields) == (expected == 405)
    assert (body == "") == (method == "HEAD")


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"\r\n\r\n", b"400"), (b"GET\r\n\r\n", b"400"), (b"GET /metrics\r\n\r\n", b"400"),
     (b"\x16\x03\x01\x02\0\x01\0", b"400"), (b"GET /metrics HTTP/1.1\0\r\n\r\n", b"400"),
     (b"GET /metrics SPDY/3\r\n\r\n", b"400"), (b"x" * 5000, b"431"),
     (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 5000, b"431"),
     (b"\x01\x01\0\x01\0\x08\0\0" + b"\0" * 8, b"400"), (b"GET /metrics HTTP/1.0\n\n", b"200"),
     (b"GET /metrics HTTP/1.1\r\nAccept:\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"200")],
)
def test_garbage_gets_an_error_and_nothing_else(scraped, data, status):
    assert scraped.raw(data).startswith(b"HTTP/1.1 " + status + b" ")
    assert scraped.get()[0] == 200


def test_request_byte_by_byte(scraped):
    with scraped.connect() as connection:
        for byte in b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n":
            connection.send(bytes([byte]))
        assert Scraped.read(connection).startswith(b"HTTP/1.1 200 ")


def test_on_a_unix_socket(start_scraped, peer, workspace):
    path = workspace.path("metrics.sock")
    scraped = start_scraped(peer, listen=path)
    assert scraped.get()[0] == 200
    assert scraped.address.path == path
    scraped.deferd.stop()
    assert not pathlib.Path(path).exists()


def test_idle_connections_do_not_keep_prometheus_out(scraped):
    idle = [scraped.connect() for _ in range(100)]
    for connection in idle[::2]:
        connection.send(b"GET /metr")
    assert scraped.get()[0] == 200
    wait_until(lambda: scraped.deferd.sockets() <= 40)
    idle[0].wait_closed()


@pytest.mark.time_limit(30)
def test_connection_has_ten_seconds(scraped):
    begun = time.monotonic()
    with scraped.connect() as silent, scraped.connect() as half:
        half.send(b"GET /metrics HTTP/1.1\r\n")
        silent.wait_closed(timeout=15)
        half.wait_closed(timeout=5)
    assert 8 < time.monotonic() - begun < 15


def test_endless_body_is_not_read(scraped):
    with scraped.connect() as connection:
        connection.send(b"POST /metrics HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(2000):
                connection.send(b"x" * 65536)


@pytest.mark.time_limit(40)
def test_floods_and_slow_readers_while_requests_go_on(scraped, connect, peer):
    done = []

    def flood():
        while not done:
            try:
                scraped.raw(b"GET /metrics HTTP/1.1\r\n\r\n")
            except OSError:
                pass

    def garbage():
        while not done:
            try:
                scraped.raw(b"\xff" * 4096)
            except OSError:
                pass

    base = scraped.deferd.rss_kb()
    slow = [scraped.connect() for _ in range(20)]
    for connection in slow:
        connection.send(b"GET /metrics HTTP/1.1\r\n\r\n")
    floods = [Background(function) for function in (flood, flood, garbage)]
    client = connect(scraped.deferd)
    for _ in range(100):
        begun = time.monotonic()
        client.send_request(uri="/between", keep=True)
        peer.accept_request().answer()
        assert client.read_response().complete
        assert time.monotonic() - begun < 1
    done.append(True)
    for background in floods:
        background.result()
    assert sanitized() or scraped.deferd.rss_kb() - base < 4096
    assert scraped.metrics().value("deferd_requests_total", outcome="answered") == 100


# --- numbers -----------------------------------------------------------------------------------


def test_every_family_has_samples_help_and_type(scraped):
    families = parse(scraped.get()[2])
    for name, family in families.items():
        assert name.startswith("deferd_")
        assert family.help.endswith(".") and family.samples
        assert family.type in ("counter", "gauge", "histogram")
        assert name.endswith("_total") == (family.type == "counter")


def test_labels_are_bounded(start_scraped, peer, connect):
    """What peers say makes no new series."""
    scraped = start_scraped(peer, max_workers=1, arguments=["--class", "gold,priority=1"])
    before = set(series(scraped))
    client = connect(scraped.deferd)
    for number in range(5):
        client.send_request(uri=f"/{number}", keep=True, method=f"M{number}",
                            params={"DEFERD_CLASS": f"class{number}"})
        peer.accept_request().answer()
        assert client.read_response().complete
    assert set(series(scraped)) == before
    metrics = scraped.metrics()
    assert {dict(labels)["outcome"] for _, labels in
            metrics.families["deferd_requests_total"].samples} == set(OUTCOMES)
    assert metrics.value("deferd_requests_total", **{"class": "default"}) == 5


def series(scraped):
    return [key for family in scraped.metrics().families.values() for key in family.samples]


def test_outcomes_and_tasks_are_counted(scraped, connect, peer):
    client = connect(scraped.deferd)
    for number in range(3):
        client.send_request(uri=f"/{number}", keep=True)
        peer.accept_request().answer()
        assert client.read_response().complete
    client.send_request(uri="/defers", keep=True)
    connection = peer.accept_request()
    connection.answer_and_defer(tasks=["a", "b", "c", "d"])
    assert client.read_response().complete
    assert scraped.metrics().value("deferd_deferred_phases") == 1
    connection.report({"event": "start", "task": 0}, {"event": "done", "task": 0, "ms": 1},
                      {"event": "fail", "task": 1, "ms": 1, "error": "no"},
                      {"event": "skip", "task": 2, "why": "stopped"}, {"event": "end"})
    connection.end()
    scraped.deferd.wait_for_request("/defers", outcome="failed")
    client.send_request("POST", uri="/broken", keep=True)
    peer.accept_request().close()
    assert client.read_response().status == 502

    metrics = scraped.metrics()
    by_outcome = {outcome: metrics.value("deferd_requests_total", outcome=outcome)
                  for outcome in OUTCOMES}
    assert {name: n for name, n in by_outcome.items() if n} == {
        "answered": 3, "failed": 1, "upstream_failed": 1}
    assert metrics.value("deferd_requests_received_total") == 5
    assert [metrics.value(f"deferd_tasks_{name}_total") for name in
            ("done", "failed", "skipped", "unfinished")] == [1, 1, 1, 1]
    assert metrics.value("deferd_upstream_requests_total") == 5
    assert metrics.value("deferd_response_seconds_count") == 5
    assert metrics.value("deferd_queue_seconds_count") == 5
    assert metrics.value("deferd_deferred_seconds_count") == 1
    assert metrics.value("deferd_deferred_phases") == 0
    assert metrics.value("deferd_connections_accepted_total") == 1


def test_histograms_agree_with_the_log(scraped, connect, peer):
    client = connect(scraped.deferd)
    for number, wait in enumerate((0, 0.02, 0.3)):
        client.send_request(uri=f"/{number}", keep=True)
        connection = peer.accept_request()
        begun = time.monotonic()
        wait_until(lambda begun=begun, wait=wait: time.monotonic() - begun >= wait)
        connection.answer()
        assert client.read_response().complete
    logged = [request.response_ms / 1000 for request in scraped.deferd.wait_for_requests(3)]
    metrics = scraped.metrics()
    buckets = [(dict(labels)["le"], value) for (name, labels), value in
               metrics.families["deferd_response_seconds"].samples.items()
               if name == "deferd_response_seconds_bucket"]
    assert buckets[-1] == ("+Inf", 3)
    for bound, value in buckets[:-1]:
        assert value == sum(seconds <= float(bound) for seconds in logged)
    assert abs(metrics.value("deferd_response_seconds_sum") - sum(logged)) < 0.001


def test_queue_and_workers(start_scraped, connect, peer):
    scraped = start_scraped(peer, max_workers=1, arguments=["--queue-max", "2"])
    clients = []
    for number in range(4):
        clients.append(connect(scraped.deferd))
        clients[-1].send_request(uri=f"/{number}")
        clients[-1].wait_read()
    assert clients[3].read_response().status == 503
    metrics = scraped.metrics()
    assert metrics.value("deferd_workers_busy") == metrics.value("deferd_workers") == 1
    assert metrics.value("deferd_workers_all_busy_total") == 1
    assert metrics.value("deferd_queue_length") == metrics.value("deferd_queue_peak") == 2
    assert metrics.value("deferd_queue_limit") == 2
    assert metrics.value("deferd_requests_total", outcome="queue_full") == 1
    assert metrics.value("deferd_connections") == 4
    wait_until(lambda: scraped.metrics().value("deferd_queue_oldest_seconds") > 0.05)


def upstreams_of(metrics):
    """The labels of the upstreams."""
    return {dict(pairs)["upstream"] for _, pairs in metrics.families["deferd_workers"].samples}


def test_upstreams_are_called_by_address_with_flags(start_scraped, start_peer):
    one, two = start_peer(), start_peer()
    scraped = start_scraped(one, arguments=["--upstream", f"{two.address},max_workers=3"])
    assert upstreams_of(scraped.metrics()) == {f"unix:{one.address}", f"unix:{two.address}"}
    assert scraped.metrics().value("deferd_workers", upstream=f"unix:{two.address}") == 3


def test_upstreams_are_called_by_name_with_a_file(start_master, start_peer, workspace, releases):
    one, two = start_peer(), start_peer()
    master = start_master(one, options={"metrics.listen": workspace.path("metrics.sock")},
                          pool={"upstream[2]": str(two.address)})
    assert upstreams_of(Scraped(master, releases).metrics()) == {f"unix:{one.address}", "2"}


def test_upstream_that_is_away(start_scraped, connect, workspace):
    scraped = start_scraped(workspace.path("nobody.sock"))
    assert scraped.metrics().value("deferd_upstream_up") == 1
    client = connect(scraped.deferd)
    client.send_request()
    assert client.read_response().status == 502
    metrics = scraped.metrics()
    assert metrics.value("deferd_upstream_up") == 0
    assert metrics.value("deferd_upstream_connect_failures_total") >= 1


def test_resent_requests_are_counted(scraped, connect, peer):
    client = connect(scraped.deferd)
    client.send_request()
    peer.accept_request().close()
    peer.accept_request().answer()
    assert client.read_response().complete
    assert scraped.metrics().value("deferd_upstream_requests_resent_total") == 1


# --- under a master ----------------------------------------------------------------------------


def test_listener_comes_and_goes_with_a_reload(workspace, start_peer, releases):
    peer = start_peer()
    first, second = (workspace.path(f"metrics-{number}.sock") for number in (1, 2))
    pools = {"other": {"listen": workspace.path("other.sock"), "upstream": str(peer.address),
                       "upstream.max_workers": 3, "upstream.keepalive": "no"}}
    options = {"metrics.listen": first}
    master = Master(workspace, peer, max_workers=2, options=options, pools=pools,
                    pool={"upstream.keepalive": "no"})
    with master:
        metrics = Scraped(master, releases).metrics()
        assert metrics.value("deferd_workers", pool="www") == 2
        assert metrics.value("deferd_workers", pool="other") == 3
        with FcgiClient(master.address) as client:
            client.send_request()
            peer.accept_request().answer()
            assert client.read_response().complete
        master.options["metrics.listen"] = second
        lines = len(master.lines)
        master.reload()
        master.wait_for_line(f"metrics at http://unix:{second}/metrics", after=lines)
        wait_until(lambda: not pathlib.Path(first).exists())
        with Connection(Address.parse(second).connect()) as connection:
            connection.send(b"GET /metrics HTTP/1.1\r\n\r\n")
            body = Scraped.read(connection).partition(b"\r\n\r\n")[2].decode()
        assert Metrics(body).value("deferd_requests_received_total") == 0  # a new process
        master.options["metrics.listen"] = None
        master.reload()
        wait_until(lambda: not pathlib.Path(second).exists())


def test_clients_that_are_not_allowed_are_refused_not_accepted(start_master, peer, workspace,
                                                               releases):
    master = start_master(peer, pool={"listen": "127.0.0.1:0",
                                      "listen.allowed_clients": "127.0.0.2"},
                          options={"metrics.listen": workspace.path("metrics.sock")})
    ready = master.wait_for_line(r"\[www\] listening on (\S+),")
    for _ in range(3):
        with FcgiClient(ready[1]) as client:
            client.wait_closed()
    metrics = Scraped(master, releases).metrics()
    assert metrics.value("deferd_connections_refused_total") == 3
    assert metrics.value("deferd_connections_accepted_total") == 0
    assert metrics.value("deferd_connections") == 0


def test_metrics_listen_that_a_pool_listens_on_is_refused(workspace):
    path = workspace.path("both.sock")
    result = subprocess.run(
        [find_binary(), "--listen", path, "--upstream", "/x", "--max-workers", "1",
         "--metrics-listen", path, "-t"], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "metrics.listen" in result.stderr and "the address of [www] listen" in result.stderr


def test_metrics_listen_in_use_is_refused(workspace, peer):
    result = subprocess.run(
        [find_binary(), "--listen", workspace.path("d.sock"), "--upstream", "/x", "--max-workers",
         "1", "--metrics-listen", str(peer.address)], capture_output=True, text=True, check=False,
        timeout=10)
    assert result.returncode != 0
    assert "in use" in result.stderr


# --- the documentation -------------------------------------------------------------------------


def test_documentation_is_current():
    printed = subprocess.run([find_binary(), "--print-metrics"], capture_output=True, text=True,
                             check=True).stdout
    written = (REPOSITORY / "docs/metrics.md").read_text(encoding="utf-8")
    assert written == printed, "make metrics-doc"
