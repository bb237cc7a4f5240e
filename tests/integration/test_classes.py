"""Classes of requests: how many workers each may hold, who goes first, how long each waits."""

import pytest
from harness import wait_until
from harness.client import encode_request, request_params


@pytest.fixture(name="start_classes")
def fixture_start_classes(start_deferd, peer):
    """start_classes("bulk,max_workers=1", …): a deferd with these classes."""

    def start(*classes, max_workers=4, arguments=(), **options):
        rows = [argument for row in classes for argument in ("--class", row)]
        return start_deferd(peer, max_workers=max_workers, arguments=[*rows, *arguments],
                            **options)

    return start


def send(deferd, connect, uri, name=None, **options):
    """A client whose request deferd has read; name is its DEFERD_CLASS."""
    client = connect(deferd)
    params = {} if name is None else {"DEFERD_CLASS": name}
    client.send_request(uri=uri, params=params, **options)
    client.wait_read()
    return client


def run(deferd, connect, peer, uri, name=None):
    """A request that runs."""
    client = send(deferd, connect, uri, name)
    connection = peer.accept_request()
    assert connection.request.uri == uri
    return client, connection


def serve_next(peer, connection, uri):
    """Ends a running request; this one is the next."""
    connection.answer()
    connection = peer.accept_request()
    assert connection.request.uri == uri
    return connection


# --- max_workers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit, workers, expected", [
    ("1", 4, 1), ("3", 4, 3), ("50%", 4, 2), ("74%", 4, 2), ("1%", 4, 1), ("100%", 4, 4),
    ("9", 4, 4),
])
def test_class_holds_no_more_workers_than_it_may(
    start_classes, connect, peer, limit, workers, expected
):
    deferd = start_classes(f"bulk,max_workers={limit}", max_workers=workers)
    clients = [send(deferd, connect, f"/{number}", "bulk") for number in range(workers + 1)]
    running = [peer.accept_request() for _ in range(expected)]
    assert peer.idle()
    for number in range(expected, workers + 1):
        running.append(serve_next(peer, running[number - expected], f"/{number}"))
        assert clients[number - expected].read_response().complete
        assert peer.idle(0.02)


def test_percentage_is_of_all_upstreams_workers(start_deferd, start_peer, connect):
    peers = [start_peer(), start_peer()]
    deferd = start_deferd(peers[0], max_workers=2, arguments=[
        "--upstream", f"{peers[1].address},max_workers=4", "--class", "bulk,max_workers=50%"])
    for number in range(4):
        send(deferd, connect, f"/{number}", "bulk")
    for _ in range(3):
        next(peer for peer in peers * 1000 if not peer.idle(0.001)).accept_request()
    assert all(peer.idle() for peer in peers)


def test_others_pass_while_a_class_waits(start_classes, connect, peer):
    deferd = start_classes("bulk,max_workers=1")
    _, bulk = run(deferd, connect, peer, "/bulk/0", "bulk")
    waiting = send(deferd, connect, "/bulk/1", "bulk")
    for number in range(3):
        client, connection = run(deferd, connect, peer, f"/{number}")
        connection.answer(b"passed")
        assert client.read_response().body == b"passed"
        assert waiting.silent(0.0)
    serve_next(peer, bulk, "/bulk/1").answer()
    assert waiting.read_response().complete
    assert deferd.wait_for_request("/bulk/1").outcome == "answered"


def test_flood_of_a_class_does_not_starve_the_others(start_classes, connect, peer):
    deferd = start_classes("bulk,max_workers=50%", "other")
    flood = [send(deferd, connect, f"/bulk/{number}", "bulk") for number in range(200)]
    bulk = [peer.accept_request() for _ in range(2)]
    assert peer.idle()
    for name in (None, "other", "default", None, "other"):
        _, one = run(deferd, connect, peer, "/one", name)
        two, connection = run(deferd, connect, peer, "/two", name)
        connection.answer(b"two")
        assert two.read_response().body == b"two"
        one.answer()
        assert deferd.wait_for_request("/one").queue_ms < 1000
    for number in range(2, 200):
        bulk.append(serve_next(peer, bulk[number - 2], f"/bulk/{number}"))
    for connection in bulk[-2:]:
        connection.answer()
    assert all(client.read_response().complete for client in flood)


def test_default_class_can_be_limited_too(start_classes, connect, peer):
    deferd = start_classes("default,max_workers=1", "bulk")
    _, running = run(deferd, connect, peer, "/0")
    send(deferd, connect, "/1")
    send(deferd, connect, "/2", "default")
    run(deferd, connect, peer, "/bulk", "bulk")
    assert peer.idle()
    serve_next(peer, serve_next(peer, running, "/1"), "/2")


def deferred(client, connection):
    connection.answer_and_defer()
    assert client.read_response().complete
    return connection.finish_tasks


def test_deferred_phase_counts_for_its_class(start_classes, connect, peer):
    deferd = start_classes("bulk,max_workers=1")
    finish = deferred(*run(deferd, connect, peer, "/0", "bulk"))
    send(deferd, connect, "/1", "bulk")
    assert peer.idle()
    finish()
    assert peer.accept_request().request.uri == "/1"


def answered(client, connection):
    connection.answer()
    assert client.read_response().complete


def lost(client, connection):
    connection.stdout(b"X")
    connection.close()
    assert client.read_response().status == 502


def gone(client, connection):
    client.close()
    connection.wait_closed()


def sent_again(client, connection):
    connection.close()


@pytest.mark.parametrize("end", [answered, lost, gone, sent_again], ids=lambda end: end.__name__)
def test_place_in_a_class_is_free_again_however_a_request_ends(start_classes, connect, peer, end):
    deferd = start_classes("bulk,max_workers=1")
    for number in range(4):
        client, connection = run(deferd, connect, peer, f"/{number}", "bulk")
        waiting = send(deferd, connect, "/waiting", "bulk")
        assert peer.idle(0.02)
        end(client, connection)
        if end is sent_again:
            answered(client, peer.accept_request())
        answered(waiting, peer.accept_request())


def test_place_in_a_class_is_free_after_a_full_backlog(start_deferd, start_peer, connect):
    peer = start_peer(backlog=0)
    filler = connect(peer)
    deferd = start_deferd(peer, max_workers=4, arguments=["--class", "bulk,max_workers=1"])
    clients = [send(deferd, connect, f"/{number}", "bulk") for number in range(3)]
    deferd.wait_for_line("backlog is full")
    peer.accept().close()
    filler.close()
    for number, client in enumerate(clients):
        connection = peer.accept_request()
        assert connection.request.uri == f"/{number}"
        assert peer.idle(0.05)
        answered(client, connection)


# --- priority -------------------------------------------------------------------------------------


def test_higher_priority_goes_first(start_classes, connect, peer):
    deferd = start_classes("low", "high,priority=10", "higher,priority=100", max_workers=1)
    _, running = run(deferd, connect, peer, "/running")
    for uri, name in (("/0", None), ("/low", "low"), ("/high/0", "high"), ("/higher", "higher"),
                      ("/high/1", "high"), ("/1", None)):
        send(deferd, connect, uri, name)
    for uri in ("/higher", "/high/0", "/high/1", "/0", "/low", "/1"):
        running = serve_next(peer, running, uri)


def test_equal_priority_goes_by_age(start_classes, connect, peer):
    deferd = start_classes("one,priority=5", "two,priority=5", max_workers=1)
    _, running = run(deferd, connect, peer, "/running")
    names = ["two", "one", "one", "two", "one", "two", "two"]
    for number, name in enumerate(names):
        send(deferd, connect, f"/{number}", name)
    for number in range(len(names)):
        running = serve_next(peer, running, f"/{number}")


def test_default_class_can_have_a_priority(start_classes, connect, peer):
    deferd = start_classes("default,priority=1", "bulk", max_workers=1)
    _, running = run(deferd, connect, peer, "/running")
    send(deferd, connect, "/bulk", "bulk")
    send(deferd, connect, "/default")
    serve_next(peer, serve_next(peer, running, "/default"), "/bulk")


def test_lower_priority_passes_while_a_higher_is_over_its_limit(start_classes, connect, peer):
    deferd = start_classes("high,priority=1,max_workers=1", max_workers=2)
    _, running = run(deferd, connect, peer, "/high/0", "high")
    send(deferd, connect, "/high/1", "high")
    run(deferd, connect, peer, "/low")
    serve_next(peer, running, "/high/1")


# --- queue_timeout --------------------------------------------------------------------------------


@pytest.mark.parametrize("patient_first", [True, False], ids=["patient first", "patient last"])
def test_class_has_a_timeout_of_its_own(start_classes, connect, peer, patient_first):
    """Whoever came first: the one timer is armed for whose time is up first."""
    deferd = start_classes("quick,queue_timeout=200ms", max_workers=1)
    _, running = run(deferd, connect, peer, "/running")
    if patient_first:
        patient = send(deferd, connect, "/patient")
    quick = send(deferd, connect, "/quick", "quick")
    if not patient_first:
        patient = send(deferd, connect, "/patient")
    response = quick.read_response(timeout=3.0)
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    request = deferd.wait_for_request("/quick")
    assert request.outcome == "queue_timeout"
    assert 200 <= request.queue_ms < 1200
    assert "200 ms (class quick)" in deferd.causes_of(request)[0]
    assert patient.silent(0.3)
    answered(patient, serve_next(peer, running, "/patient"))


def test_class_without_a_timeout_has_that_of_the_queue(start_classes, connect, peer):
    deferd = start_classes("slow,queue_timeout=1h", "bulk", max_workers=1,
                           arguments=["--queue-timeout", "200ms"])
    _, running = run(deferd, connect, peer, "/running")
    slow = send(deferd, connect, "/slow", "slow")
    for client in (send(deferd, connect, "/bulk", "bulk"), send(deferd, connect, "/default")):
        assert client.read_response(timeout=3.0).status == 503
    assert slow.silent(0.1)
    answered(slow, serve_next(peer, running, "/slow"))


def test_class_over_its_limit_times_out_though_workers_are_free(start_classes, connect, peer):
    deferd = start_classes("bulk,max_workers=1,queue_timeout=200ms")
    run(deferd, connect, peer, "/0", "bulk")
    assert send(deferd, connect, "/1", "bulk").read_response(timeout=3.0).status == 503
    assert deferd.wait_for_request("/1").outcome == "queue_timeout"
    assert peer.idle()


# --- what DEFERD_CLASS says -----------------------------------------------------------------------


def test_unknown_class_is_the_default_one_and_said_once(start_classes, connect, peer):
    deferd = start_classes("default,max_workers=1", "bulk")
    _, running = run(deferd, connect, peer, "/0", "bulky")
    names = ["bulky", "Bulk", "bul", "another\n", "bulk ", "x" * 300]
    for number, name in enumerate(names):
        send(deferd, connect, f"/{number + 1}", name)
    assert peer.idle()
    for number in range(len(names)):
        running = serve_next(peer, running, f"/{number + 1}")
    running.answer()
    requests = deferd.wait_for_requests(len(names) + 1)
    assert {request.outcome for request in requests} == {"answered"}
    said = [line for line in deferd.lines if "DEFERD_CLASS" in line]
    assert len(said) == 1
    assert 'WARNING: request 1: DEFERD_CLASS "bulky" is no class' in said[0]


def test_name_of_an_unknown_class_is_escaped(start_classes, connect, peer):
    deferd = start_classes("bulk")
    run(deferd, connect, peer, "/", 'x"\n\x1b[1m')
    assert deferd.wait_for_line(r'DEFERD_CLASS "x\\x22\\x0[aA]\\x1[bB]\[1m" is no class')


@pytest.mark.parametrize("names", [[], [""], ["default"], ["bulk", ""], ["unknown", "default"]],
                         ids=str)
def test_default_class(start_classes, connect, peer, names):
    """Without a class, or with this one; of several DEFERD_CLASS the last counts, as in PHP."""
    deferd = start_classes("bulk,max_workers=1")
    run(deferd, connect, peer, "/bulk", "bulk")
    client = connect(deferd)
    pairs = [*request_params().items(), *(("DEFERD_CLASS", name) for name in names)]
    client.send(encode_request(pairs))
    answered(client, peer.accept_request())
    assert not deferd.has_line("DEFERD_CLASS")


def test_class_without_options_is_known(start_classes, connect, peer):
    deferd = start_classes("plain")
    answered(*run(deferd, connect, peer, "/", "plain"))
    deferd.wait_for_request("/")
    assert not deferd.has_line("DEFERD_CLASS")


# --- nginx and php-fpm ----------------------------------------------------------------------------


def test_nginx_says_the_class(start_fpm, start_site, start_nginx, gate, workspace):
    site = start_site(start_fpm(workers=3), arguments=["--class", "bulk,max_workers=1"],
                      nginx={"location": "fastcgi_param DEFERD_CLASS bulk;\n"})
    plain = start_nginx(site.deferd)
    marks = workspace.path("marks")
    uri = f"/slow.php?gate={gate.path}&marks={marks}"
    running = site.nginx.connect()
    running.request("GET", uri)
    wait_until(lambda: workspace.lines("marks") == ["waits"], what="the first request")
    waiting = site.nginx.connect()
    sockets = site.deferd.sockets()
    waiting.request("GET", "/hello.php")
    wait_until(lambda: site.deferd.sockets() > sockets, what="the second at deferd")
    for headers in ({}, {"Deferd-Class": "bulk"}, {"DEFERD_CLASS": "bulk"}):
        assert plain.get("/hello.php", headers=headers).text == "hello\n"
    assert [request.uri for request in site.deferd.wait_for_requests(3)] == ["/hello.php"] * 3
    gate.open()
    assert running.getresponse().status == 200
    response = waiting.getresponse()
    assert (response.status, response.read()) == (200, b"hello\n")
