"""status_path and ping.path: deferd's own pages, in all formats, whatever the workers do."""

import json
import re
import time
import xml.etree.ElementTree

import pytest
from harness import Background, FcgiClient, fcgi, wait_until
from harness.daemon import sanitized

FORMATS = ["", "json", "xml", "html", "openmetrics"]
TYPES = {
    "": "text/plain; charset=utf-8",
    "json": "application/json",
    "xml": "text/xml; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
ARGUMENTS = ["--status-path", "/status", "--ping-path", "/ping"]
HOSTILE = "/a?<script>alert(1)</script>\"'&amp;]]>\n\rpool: evil\0\x1b[31m\u202e{{7*7}}${x}"
TASK = HOSTILE.replace("\0", "")  # JSON's NUL is no name that deferd takes


@pytest.fixture(name="start_shown")
def fixture_start_shown(start_deferd, peer):
    """start_shown(max_workers=…): deferd with status_path and ping.path."""

    def start(arguments=(), **options):
        return start_deferd(peer, arguments=[*ARGUMENTS, *arguments], **options)

    return start


@pytest.fixture(name="shown")
def fixture_shown(start_shown):
    return start_shown(max_workers=2)


def status(deferd, query="json&full"):
    """The status page, on a connection of its own; JSON as an object."""
    with FcgiClient(deferd.address) as client:
        response = client.request(uri=f"/status?{query}")
        assert (response.status, response.complete) == (200, True)
        return json.loads(response.body) if "json" in query else response.body.decode()


def busy(deferd, connect, peer, count, uri="/busy"):
    """Requests that hold workers; the clients' and the peer's ends."""
    pairs = []
    for number in range(count):
        client = connect(deferd)
        client.send_request(uri=f"{uri}{number}")
        pairs.append((client, peer.accept_request()))
    return pairs


# --- the answer itself -------------------------------------------------------------------------


@pytest.mark.parametrize("query", [*FORMATS, "full", "json&full", "xml&full"])
def test_answers_while_every_worker_is_busy_and_the_queue_is_full(start_shown, connect, peer, query):
    deferd = start_shown(max_workers=2, arguments=["--queue-max", "1"])
    pairs = busy(deferd, connect, peer, 2)
    waiting = connect(deferd)
    waiting.send_request(uri="/waiting")
    waiting.wait_read()
    body = status(deferd, query)
    with FcgiClient(deferd.address) as client:
        assert client.request(uri="/ping").body == b"pong"
    assert body
    for client, connection in pairs:
        connection.answer()
        assert client.read_response().complete
    peer.accept_request().answer()
    assert waiting.read_response().complete


@pytest.mark.parametrize("query", FORMATS)
def test_headers(shown, connect, query):
    response = connect(shown).request(uri=f"/status?{query}")
    assert response.headers["content-type"] == TYPES[query]
    assert response.headers["expires"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert response.headers["cache-control"] == "no-cache, no-store, must-revalidate, max-age=0"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert int(response.headers["content-length"]) == len(response.body)


@pytest.mark.parametrize("uri", ["/ping", *(f"/status?{query}&full" for query in FORMATS)])
def test_head_has_the_headers_alone(shown, connect, uri):
    client = connect(shown)
    full = client.request(uri=uri, keep=True)
    head = client.request("HEAD", uri, keep=True)
    assert (head.status, head.body, head.complete) == (200, b"", True)
    assert head.headers["content-type"] == full.headers["content-type"]
    assert full.body


@pytest.mark.parametrize("length", [1, 1000, 100_000, 4_000_000])
def test_post_with_a_body_is_answered_and_the_body_dropped(shown, connect, peer, length):
    client = connect(shown)
    client.start("POST", "/status?json", length, keep=True)
    response = client.read_response()
    assert json.loads(response.body)["pool"] == "www"
    sending = Background(lambda: (client.stdin(b"x" * length), client.end_stdin()))
    sending.result()
    client.send_request(uri="/next", keep=True)
    peer.accept_request().answer(b"next")
    assert client.read_response().body == b"next"


def test_ping_response_is_configured(start_shown, connect):
    deferd = start_shown(arguments=["--ping-response", "all's well"])
    response = connect(deferd).request(uri="/ping?whatever")
    assert (response.status, response.body) == (200, b"all's well")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("script", ["/status/", "/statu", "/statusx", "/x/status", "/STATUS", "",
                                    "/status/index.php", "/pin", "/ping/"])
def test_other_scripts_are_the_application_s(shown, connect, peer, script):
    client = connect(shown)
    client.send_request(uri="/status", params={"SCRIPT_NAME": script})
    peer.accept_request().answer(b"application")
    assert client.read_response().body == b"application"


def test_it_is_the_script_s_name_that_counts_not_the_uri(shown, connect):
    response = connect(shown).request(uri="/elsewhere", params={"SCRIPT_NAME": "/status",
                                                               "QUERY_STRING": "json"})
    assert json.loads(response.body)["pool"] == "www"


def test_without_a_path_there_is_no_page(start_deferd, connect, peer):
    deferd = start_deferd(peer)
    for script in ("/status", "", "/ping"):
        client = connect(deferd)
        client.send_request(uri="/status?json", params={"SCRIPT_NAME": script})
        peer.accept_request().answer(b"application")
        assert client.read_response().body == b"application"


def test_many_pages_on_one_connection(shown, connect):
    client = connect(shown)
    for number in range(200):
        query = FORMATS[number % len(FORMATS)]
        response = client.request(uri=f"/status?{query}&full", keep=True)
        assert (response.status, response.complete) == (200, True)
    assert status(shown)["accepted conn"] == 0


def test_a_page_leaves_no_line_and_counts_as_no_request(shown, connect, peer):
    before = status(shown)
    client = connect(shown)
    client.send_request(uri="/application")
    peer.accept_request().answer()
    assert client.read_response().complete
    shown.wait_for_request("/application")
    after = status(shown)
    assert (before["accepted conn"], after["accepted conn"]) == (0, 1)
    assert [request.uri for request in shown.requests] == ["/application"]


# --- what it says ------------------------------------------------------------------------------


def test_fields_after_known_traffic(start_shown, connect, peer):
    deferd = start_shown(max_workers=3, arguments=["--class", "gold,max_workers=2,priority=7",
                                                   "--queue-max", "10"])
    client = connect(deferd)
    for _ in range(3):
        client.send_request(uri="/quick", keep=True)
        peer.accept_request().answer()
        assert client.read_response().complete
    client.send_request("POST", uri="/broken", keep=True)
    peer.accept_request().close()
    assert client.read_response().status == 502
    client.send_request(uri="/deferring", keep=True, params={"DEFERD_CLASS": "gold"})
    connection = peer.accept_request()
    connection.answer_and_defer(tasks=["one", "two", "three"], pid=4711)
    connection.report({"event": "start", "task": 0}, {"event": "done", "task": 0, "ms": 1},
                      {"event": "start", "task": 1})
    assert client.read_response().complete
    connection.wait_read()
    busy(deferd, connect, peer, 2)
    for number in range(4):
        waiting = connect(deferd)
        waiting.send_request(uri=f"/waiting{number}")
        waiting.wait_read()

    shown = status(deferd)
    expected = {
        "pool": "www", "process manager": "static", "accepted conn": 11, "listen queue": 4,
        "max listen queue": 4, "listen queue len": 10, "idle processes": 0, "active processes": 3,
        "total processes": 3, "max active processes": 3, "max children reached": 1,
        "slow requests": 0, "deferred processes": 1, "held processes": 0,
        "max deferred processes": 1, "deferred processes limit": 3, "processes omitted": 0,
    }
    assert {key: shown[key] for key in expected} == expected
    assert abs(shown["start time"] - time.time()) < 60
    assert shown["outcomes"]["answered"] == 3
    assert shown["outcomes"]["upstream_failed"] == 1
    assert sum(shown["outcomes"].values()) == 4
    wait_until(lambda: status(deferd)["oldest request in queue"] > 0.01)
    classes = {row["name"]: row for row in shown["classes"]}
    assert classes["gold"] == {"name": "gold", "listen queue": 0, "active processes": 1,
                               "max workers": 2, "priority": 7}
    assert classes["default"]["listen queue"] == 4
    upstream, = shown["upstreams"]
    assert (upstream["up"], upstream["active processes"], upstream["requests"]) == (True, 3, 7)
    states = [(row["state"], row["request uri"]) for row in shown["processes"]]
    assert states == [("Deferred", "/deferring"), ("Running", "/busy0"), ("Running", "/busy1")]
    phase = shown["processes"][0]
    assert (phase["pid"], phase["class"], phase["request method"]) == (4711, "gold", "GET")
    assert (phase["tasks total"], phase["tasks ended"]) == (3, 1)
    assert [(task["name"], task["state"]) for task in phase["tasks"]] == [
        ("one", "done"), ("two", "running"), ("three", "waiting")]
    failure, = shown["failures"]
    assert (failure["request uri"], failure["outcome"], failure["status"]) == (
        "/broken", "upstream_failed", 502)
    assert sum(shown["history"]["requests"]) == 4
    assert sum(shown["history"]["failed"]) == 1
    assert max(shown["history"]["waiting"]) == 4
    assert {len(series) for series in shown["history"].values() if isinstance(series, list)} == {60}


def test_times_in_the_page_are_those_in_the_log(shown, connect, peer):
    client = connect(shown)
    client.send_request(uri="/slow", keep=True)
    connection = peer.accept_request()
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 0.2)
    connection.answer_and_defer()
    assert client.read_response().complete
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 0.1)
    connection.finish_tasks()
    logged = shown.wait_for_request("/slow")
    page = status(shown)
    for key, value in (("response time", logged.response_ms), ("deferred time", logged.deferred_ms)):
        assert page[key]["count"] == 1
        assert abs(page[key]["p50"] - value) <= value / 4
    assert page["tasks"] == {"done": 1, "failed": 0, "skipped": 0, "unfinished": 0}
    assert page["queue time"]["p99"] < 100


def test_held_phase_is_shown_as_held(start_shown, connect, peer):
    deferd = start_shown(max_workers=3, arguments=["--defer-max-workers", "1"])
    first, second = connect(deferd), connect(deferd)
    first.send_request(uri="/first")
    one = peer.accept_request()
    one.answer_and_defer()
    assert first.read_response().complete
    second.send_request(uri="/second")
    two = peer.accept_request()
    two.answer_and_defer()
    two.wait_read()
    shown = status(deferd)
    assert (shown["deferred processes"], shown["held processes"]) == (2, 1)
    assert [row["state"] for row in shown["processes"]] == ["Deferred", "Held"]
    one.finish_tasks()
    two.finish_tasks()
    assert second.read_response().complete


def test_failures_name_the_task(shown, connect, peer):
    client = connect(shown)
    client.send_request(uri="/lost")
    connection = peer.accept_request()
    connection.answer_and_defer(tasks=["first", "second"])
    connection.report({"event": "start", "task": 0}, {"event": "done", "task": 0, "ms": 1})
    connection.wait_read()
    connection.close()
    shown.wait_for_request("/lost", outcome="lost")
    failure, = status(shown)["failures"]
    assert (failure["outcome"], failure["task"]) == ("lost", "second")


def test_the_last_twenty_failures_are_shown_the_last_one_first(shown, connect, peer):
    client = connect(shown)
    for number in range(25):
        client.send_request("POST", f"/broken{number}", keep=True)
        peer.accept_request().close()
        assert client.read_response().status == 502
    uris = [failure["request uri"] for failure in status(shown)["failures"]]
    assert uris == [f"/broken{number}" for number in range(24, 4, -1)]


# --- as php-fpm has it -------------------------------------------------------------------------


@pytest.fixture(name="fpm_pages")
def fixture_fpm_pages(start_fpm):
    """php-fpm's own status page, by query."""
    fpm = start_fpm(workers=1, pool={"pm.status_path": "/status", "ping.path": "/ping"})

    def page(query, uri="/status"):
        with FcgiClient(fpm.address) as client:
            return client.request(uri=f"{uri}?{query}")

    return page


def test_text_begins_with_php_fpm_s_lines(fpm_pages, shown):
    theirs = [line.split(":")[0] for line in fpm_pages("").body.decode().splitlines()]
    lines = status(shown, "").splitlines()
    assert [line.split(":")[0] for line in lines[:len(theirs)]] == theirs
    assert {re.match(r"[^:]+: *", line).end() for line in lines[:len(theirs)]} == {22}
    date = r"start time: +\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}$"
    assert any(re.match(date, line) for line in lines)


def test_json_begins_with_php_fpm_s_keys_and_types(fpm_pages, shown):
    theirs = json.loads(fpm_pages("json").body)
    ours = status(shown, "json")
    assert list(ours)[:len(theirs)] == list(theirs)
    assert [type(ours[key]) for key in theirs] == [type(value) for value in theirs.values()]
    assert "processes" not in ours
    full = json.loads(fpm_pages("json&full").body)
    assert isinstance(status(shown)["processes"], type(full["processes"]))


def test_xml_begins_with_php_fpm_s_elements(fpm_pages, shown):
    theirs = xml.etree.ElementTree.fromstring(fpm_pages("xml&full").body)
    ours = xml.etree.ElementTree.fromstring(status(shown, "xml&full"))
    short = [child.tag for child in theirs if child.tag != "processes"]
    assert [child.tag for child in ours][:len(short)] == short
    assert ours.tag == theirs.tag
    assert ours.find("processes") is not None


def test_openmetrics_has_php_fpm_s_names(fpm_pages, shown):
    def names(text):
        return {line.split()[0] for line in text.splitlines() if not line.startswith("#")}

    theirs = names(fpm_pages("openmetrics").body.decode())
    assert theirs and theirs <= names(status(shown, "openmetrics"))


def test_process_rows_have_php_fpm_s_keys_where_they_mean_the_same(fpm_pages, shown, connect, peer):
    theirs, = json.loads(fpm_pages("json&full").body)["processes"]
    busy(shown, connect, peer, 1)
    ours, = status(shown)["processes"]
    meant = {"pid", "state", "request duration", "request method", "request uri", "content length"}
    assert meant <= set(theirs) & set(ours)


@pytest.mark.parametrize("uri", ["/status", "/ping"])
def test_headers_are_php_fpm_s(fpm_pages, shown, connect, uri):
    theirs = fpm_pages("", uri).headers
    ours = connect(shown).request(uri=uri).headers
    assert {name: ours.get(name) for name in ("expires", "cache-control")} == {
        name: theirs[name] for name in ("expires", "cache-control")}
    assert ours["content-type"].lower().replace(" ", "") == (
        theirs["content-type"].lower().replace(" ", ""))


# --- hostile peers -----------------------------------------------------------------------------


@pytest.fixture(name="hostile")
def fixture_hostile(start_shown, connect, peer):
    """deferd that shows a hostile URI and task in all its lists."""
    deferd = start_shown(max_workers=4)
    client = connect(deferd)
    client.send_request(uri="/lost", params={"REQUEST_URI": HOSTILE.encode()})
    connection = peer.accept_request()
    connection.answer_and_defer(tasks=[TASK])
    connection.wait_read()
    connection.close()
    deferd.wait_for_requests(1)
    for method, uri in (("GET", HOSTILE), ("G<b>\n", "/\udcff\udcfe\udc80bad")):
        client = connect(deferd)
        raw = uri.encode("utf-8", "surrogateescape")
        client.send_request(method, params={"REQUEST_METHOD": method, "REQUEST_URI": raw})
        connection = peer.accept_request()
        connection.answer_and_defer(tasks=[TASK, "second"])
        connection.wait_read()
    return deferd


def test_hostile_texts_in_json(hostile):
    shown = status(hostile)
    uris = {row["request uri"] for row in shown["processes"]}
    assert HOSTILE in uris
    assert r"/\xFF\xFE\x80bad" in uris
    assert shown["failures"][0]["request uri"] == HOSTILE
    assert shown["processes"][0]["tasks"][0]["name"] == TASK
    assert shown["failures"][0]["task"] == TASK


def test_hostile_texts_in_xml(hostile):
    tree = xml.etree.ElementTree.fromstring(status(hostile, "xml&full"))
    uris = [node.text for node in tree.findall("processes/process/request-uri")]
    assert any("<script>alert(1)</script>\"'&amp;]]>" in uri for uri in uris)
    assert tree.findall(".//script") == []
    names = [node.text for node in tree.findall("processes/process/tasks/task/name")]
    assert names.count("second") == 2


def test_hostile_texts_in_text(hostile):
    text = status(hostile, "full")
    assert re.findall(r"^pool:.*$", text, re.M) == ["pool:                 www"]
    assert not re.search(r"[^\n -~\u0080-\U0010ffff]", text)
    assert text.count("************************\n") == 3


def test_hostile_texts_in_html(hostile, connect):
    response = connect(hostile).request(uri="/status?html&full&x=<script>alert(1)</script>")
    assert b"alert(1)" not in response.body
    assert b"evil" not in response.body


def test_the_page_for_people_allows_only_its_own_script(shown, connect):
    nonces = set()
    for _ in range(2):
        response = connect(shown).request(uri="/status?html")
        policy = response.headers["content-security-policy"]
        nonce, = set(re.findall(r"nonce-([0-9a-f]{32})", policy))
        assert "default-src 'none'" in policy and "unsafe" not in policy
        body = response.body.decode()
        assert re.findall(r"<(?:script|style)[^>]*>", body) == [
            f'<style nonce="{nonce}">', f'<script nonce="{nonce}">']
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", body)
        nonces.add(nonce)
    assert len(nonces) == 2


def test_hostile_texts_in_openmetrics(start_deferd, connect, workspace, start_peer):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    path = workspace.path("a\"b\\c.sock")
    peer = start_peer(path)
    deferd = start_deferd(peer, arguments=ARGUMENTS)
    text = connect(deferd).request(uri="/status?openmetrics").body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    sample, = families["deferd_upstream_up"].samples
    assert sample.labels["pool"] == "www"
    assert sample.labels["upstream"].endswith(path)
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("query", ["&" * 60000, "json" * 15000, "json&full&" + "\0" * 5000,
                                   "%6a%73%6f%6e", "\xff\xfe", "="])
def test_odd_queries_are_answered(shown, connect, query):
    response = connect(shown).request(params={"SCRIPT_NAME": "/status", "QUERY_STRING": query})
    assert (response.status, response.complete) == (200, True)


# --- slow readers and floods -------------------------------------------------------------------


@pytest.fixture(name="large")
def fixture_large(start_shown, connect, peer):
    """deferd whose full page is larger than any socket's buffer."""
    deferd = start_shown(max_workers=200)
    names = [chr(ord("a") + number) * 120 for number in range(16)]
    for number in range(200):
        client = connect(deferd)
        client.send_request(uri=f"/{number}?" + "u" * 2000)
        connection = peer.accept_request()
        connection.answer_and_defer(tasks=names, pid=number + 1)
        connection.wait_read()
    return deferd


def test_large_page_is_whole_for_a_reader_that_is_slow(large, connect):
    slow = connect(large)
    slow.send_request(uri="/status?json&full")
    before = status(large)
    slow_page = json.loads(slow.read_response().body)
    assert len(slow_page["processes"]) == len(before["processes"]) == 200
    assert {len(row["tasks"]) for row in slow_page["processes"]} == {16}


def test_reader_that_leaves_in_the_middle(large, connect):
    for _ in range(20):
        client = connect(large)
        client.send_request(uri="/status?json&full")
        client.read_bytes(1000)
        client.reset()
    for _ in range(20):
        client = connect(large)
        client.send_request(uri="/status?json&full", keep=True)
        client.read_bytes(1000)
        client.record(fcgi.ABORT_REQUEST)
        client.close()
    assert len(status(large)["processes"]) == 200


@pytest.mark.time_limit(40)
def test_slow_readers_take_little_memory_and_nobody_s_turn(large, connect, peer):
    page = len(connect(large).request(uri="/status?json&full").body)
    assert page > 300_000
    base = large.rss_kb()
    readers = []
    for number in range(200):
        reader = connect(large)
        # Different variants, so that not one page is shared by all.
        reader.send_request(uri=["/status?json&full", "/status?xml&full", "/status?full"][number % 3])
        reader.wait_read()
        readers.append(reader)
    small = connect(large).request(uri="/ping")
    assert small.body == b"pong"
    # Each has at most a piece that its socket did not take; the pages have their budget.
    assert sanitized() or large.rss_kb() - base < 16 * 1024 + 200 * 40 + 8 * 1024
    for reader in readers:
        reader.close()
    # What they left unread filled the pages' budget; until it is free again there may be none.
    client = connect(large)
    wait_until(lambda: client.request(uri="/status?json&full", keep=True).status == 200)
    wait_until(lambda: status(large)["connections"] <= 210)
    assert len(status(large)["processes"]) == 200


@pytest.mark.time_limit(40)
def test_flood_of_pages_leaves_room_for_requests(large, connect, peer, start_shown):
    deferd = start_shown(max_workers=2)
    done = []

    def flood():
        with FcgiClient(deferd.address) as client:
            while not done:
                assert client.request(uri="/status?json&full", keep=True).complete

    floods = [Background(flood) for _ in range(4)]
    base = deferd.rss_kb()
    client = connect(deferd)
    for _ in range(100):
        begun = time.monotonic()
        client.send_request(uri="/between", keep=True)
        peer.accept_request().answer()
        assert client.read_response().complete
        assert time.monotonic() - begun < 1
    done.append(True)
    for background in floods:
        background.result()
    assert sanitized() or deferd.rss_kb() - base < 4096


@pytest.mark.time_limit(40)
def test_rendering_takes_a_small_part_of_the_time(large, connect):
    """A page that is costly is shown again when very many ask, but not for long."""
    client = connect(large)
    pages = []

    def page():
        pages.append(client.request(uri="/status?json&full", keep=True).body)
        return len(pages) > 1 and pages[-1] == pages[-2]

    wait_until(page, 20, "the same page twice", interval=0)
    assert len(set(pages)) > 1
    old = pages[-1]
    wait_until(lambda: client.request(uri="/status?json&full", keep=True).body != old)


def test_pages_while_it_drains(start_shown, connect, peer):
    deferd = start_shown(max_workers=1)
    (client, connection), = busy(deferd, connect, peer, 1)
    kept = connect(deferd)
    kept.start("POST", "/status?json", 10, keep=True)
    assert kept.read_response().complete
    Background(deferd.stop)
    deferd.wait_for_line("no new connections")
    kept.stdin(b"x" * 10)
    kept.end_stdin()
    kept.wait_closed()
    connection.answer()
    assert client.read_response().complete
    assert deferd.wait() == 0
