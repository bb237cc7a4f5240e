"""Real php-fpm under stress: too few workers, killed ones, none at all, and deferd's own death."""

import http.client
import re
import signal

import pytest
from harness import Background, wait_until
from harness.nginx import close_quietly


def uri(script, gate, workspace, **query):
    query = {"gate": gate.path, "marks": workspace.path("marks"), **query}
    return f"/{script}?" + "&".join(f"{name}={value}" for name, value in query.items())


def wait_for_marks(workspace, *expected):
    wait_until(lambda: sorted(workspace.lines("marks")) == sorted(expected),
               what=f"marks {expected}")


def send_and_leave_open(nginx, uri):
    sock = nginx.socket()
    sock.sendall(f"GET {uri} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return sock


@pytest.fixture(name="frail")
def fixture_frail(start_site, start_fpm):
    """A site whose php-fpm, with two workers, the test may harm."""
    return start_site(start_fpm(workers=2))


def test_worker_killed_while_the_client_waits_is_502(frail, gate, workspace):
    """A POST may have done something: it is not run again."""
    frail.fpm.wait_for_workers()
    call = Background(frail.nginx.post, uri("slow.php", gate, workspace), b"body")
    wait_until(lambda: workspace.lines("marks") == ["waits"], what="the script waits")
    for pid in frail.fpm.workers():
        frail.fpm.kill_worker(pid)
    assert call.result().status == 502
    assert workspace.lines("marks") == ["waits"]
    request = frail.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.status) == ("upstream_failed", 502)
    assert frail.deferd.causes_of(request)
    frail.fpm.wait_for_workers()
    assert frail.nginx.get("/hello.php").text == "hello\n"


def test_request_without_side_effects_is_run_again_when_its_worker_is_killed(
    start_site, start_fpm, gate, workspace
):
    frail = start_site(start_fpm(workers=1))
    call = Background(frail.nginx.get, uri("slow.php", gate, workspace))
    wait_until(lambda: workspace.lines("marks") == ["waits"], what="the script waits")
    frail.fpm.kill_worker(frail.fpm.workers()[0])
    wait_until(lambda: workspace.lines("marks") == ["waits"] * 2, what="it waits again")
    gate.open()
    assert call.result().text == " and the rest"
    assert frail.deferd.wait_for_requests(1)[0].outcome == "answered"
    assert workspace.lines("marks") == ["waits", "waits", "woke"]


def test_request_that_kills_a_worker_twice_is_502(start_site, start_fpm, gate, workspace):
    frail = start_site(start_fpm(workers=1))
    call = Background(frail.nginx.get, uri("slow.php", gate, workspace))
    for times in (1, 2):
        wait_until(lambda: workspace.lines("marks") == ["waits"] * times, what="the script waits")
        frail.fpm.kill_worker(frail.fpm.workers()[0])
    assert call.result().status == 502
    request = frail.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.status) == ("upstream_failed", 502)
    assert workspace.lines("marks") == ["waits", "waits"]


def test_worker_killed_amid_its_response_cuts_it_visibly(start_site, start_fpm, gate, workspace):
    """nginx sees that END_REQUEST is missing (with fastcgi_buffering off it does not care)."""
    site = start_site(start_fpm(workers=1))
    call = Background(site.nginx.get, uri("slow.php", gate, workspace, part=1))
    wait_until(lambda: workspace.lines("marks") == ["waits"], what="the script waits")
    site.fpm.kill_worker(site.fpm.workers()[0])
    with pytest.raises(http.client.IncompleteRead) as caught:
        call.result()
    assert caught.value.partial == b"a part"
    request = site.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.status) == ("upstream_failed", 200)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_worker_killed_in_the_deferred_phase_is_lost_and_named(frail, gate, workspace, number):
    response = frail.nginx.get(uri("tasks.php", gate, workspace, tasks="ok,gate,ok"))
    assert response.text == "answered\n"
    wait_until(lambda: workspace.lines("marks") == ["ok 0", "waits 1"], what="a task waits")
    frail.fpm.kill_worker(int(response.header("x-pid")), number)
    request = frail.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.status, request.done) == ("lost", 200, 1)
    assert request.pid == int(response.header("x-pid"))
    causes = frail.deferd.causes_of(request)
    assert any("gate 1" in cause and "ok 2" in cause and "ok 0" not in cause for cause in causes)
    frail.fpm.wait_for_workers()
    assert frail.nginx.get("/hello.php").text == "hello\n"


def test_php_fpm_absent_is_502_and_served_when_it_comes(frail):
    frail.fpm.end()
    assert frail.nginx.get("/hello.php").status == 502
    request = frail.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.status) == ("upstream_failed", 502)
    assert request.queue_ms <= request.response_ms
    assert any("no upstream" in cause for cause in frail.deferd.causes_of(request))
    assert frail.deferd.has_line(rf"upstream \S*{re.escape(str(frail.fpm.address))}: cannot")
    frail.fpm.start()
    assert frail.nginx.get("/hello.php").text == "hello\n"


def test_graceful_end_of_php_fpm_lets_deferred_work_finish(start_site, start_fpm, gate, workspace):
    site = start_site(start_fpm(workers=2, options={"process_control_timeout": "10s"}))
    response = site.nginx.get(uri("tasks.php", gate, workspace, tasks="gate"))
    assert response.text == "answered\n"
    wait_until(lambda: workspace.lines("marks") == ["waits 0"], what="the task waits")
    site.fpm.signal(signal.SIGQUIT)
    gate.open()
    request = site.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.done) == ("completed", 1)
    site.fpm.wait()


@pytest.mark.parametrize("tasks", ["gate", "gate,ok,ok", "ok,gate,add,fail,ok"])
def test_death_of_deferd_harms_no_callback(start_site, shared_fpm, gate, workspace, tasks):
    site = start_site(shared_fpm)
    for _ in range(4):
        assert site.nginx.get(uri("tasks.php", gate, workspace, tasks=tasks)).text == "answered\n"
    waiting = [f"waits {number}" for number, kind in enumerate(tasks.split(",")) if kind == "gate"]
    wait_until(lambda: sum(line in waiting for line in workspace.lines("marks")) == 4,
               what="four tasks wait")
    site.deferd.expect_end()
    site.deferd.kill()
    gate.open()
    expected = []
    for number, kind in enumerate(tasks.split(",")):
        expected += {"gate": [f"waits {number}", f"ok {number}"], "ok": [f"ok {number}"],
                     "add": [f"added by {number}"], "fail": []}[kind]
    wait_for_marks(workspace, *(expected * 4))


def test_death_of_deferd_is_502_and_its_successor_serves(start_site, start_deferd, shared_fpm):
    site = start_site(shared_fpm)
    assert site.nginx.get("/hello.php").status == 200
    path = site.deferd.address.path
    site.deferd.expect_end()
    site.deferd.kill()
    assert site.nginx.get("/hello.php").status == 502
    start_deferd(shared_fpm, path)
    assert site.nginx.get("/hello.php").status == 200


def test_more_requests_than_workers_are_all_served(start_site, start_fpm, workspace):
    site = start_site(start_fpm(workers=2))
    marks = workspace.path("marks")
    calls = [Background(site.nginx.get, f"/load.php?marks={marks}") for _ in range(40)]
    assert [call.result().status for call in calls] == [200] * 40
    requests = site.deferd.wait_for_requests(40)
    assert {request.outcome for request in requests} == {"completed"}
    assert sum(line.startswith("ran ") for line in workspace.lines("marks")) == 40


def test_more_slots_than_workers_with_a_full_backlog(start_site, start_fpm, workspace):
    """max-workers is too high: connections pile up before php-fpm, and nobody gets an error."""
    site = start_site(start_fpm(workers=1, pool={"listen.backlog": 1}), max_workers=32)
    marks = workspace.path("marks")
    calls = [Background(site.nginx.get, f"/load.php?marks={marks}") for _ in range(30)]
    assert [call.result().status for call in calls] == [200] * 30
    requests = site.deferd.wait_for_requests(30)
    assert {request.outcome for request in requests} == {"completed"}


def test_workers_that_end_after_each_request_cost_nobody_an_answer(
    start_site, start_fpm, workspace
):
    site = start_site(start_fpm(workers=4, pool={"pm.max_requests": 1}))
    marks = workspace.path("marks")
    for _ in range(5):
        calls = [Background(site.nginx.get, f"/load.php?marks={marks}") for _ in range(20)]
        assert [call.result().status for call in calls] == [200] * 20
    assert {request.outcome for request in site.deferd.wait_for_requests(100)} == {"completed"}


def test_reload_of_php_fpm_costs_nobody_an_answer(start_site, start_fpm, workspace):
    site = start_site(start_fpm(workers=4, options={"process_control_timeout": "10s"}))
    marks = workspace.path("marks")
    old = site.fpm.workers()
    for round in range(1, 4):
        calls = [Background(site.nginx.get, f"/load.php?marks={marks}") for _ in range(20)]
        wait_until(lambda: len(workspace.lines("marks")) > (round - 1) * 40, what="work has begun")
        site.fpm.signal(signal.SIGUSR2)
        assert [call.result().status for call in calls] == [200] * 20
        site.deferd.wait_for_requests(round * 20)
    assert {request.outcome for request in site.deferd.requests} == {"completed"}
    wait_until(lambda: not set(old) & set(site.fpm.workers()), what="new workers")


def test_php_fpm_on_tcp(start_site, start_fpm):
    for listen in ("127.0.0.1:0", "[::1]:0"):
        site = start_site(start_fpm(workers=2, listen=listen))
        for _ in range(50):
            assert site.nginx.get("/hello.php").text == "hello\n"
        body = b"upload" * 100000
        assert site.nginx.post("/echo.php", body).body == body


def test_workers_on_demand(start_site, start_fpm, workspace):
    site = start_site(start_fpm(workers=4, pool={"pm": "ondemand"}))
    marks = workspace.path("marks")
    calls = [Background(site.nginx.get, f"/load.php?marks={marks}") for _ in range(20)]
    assert [call.result().status for call in calls] == [200] * 20


def test_request_terminate_timeout_ends_deferred_work_as_lost(
    start_site, start_fpm, gate, workspace
):
    site = start_site(start_fpm(workers=1, pool={"request_terminate_timeout": "1s"}))
    assert site.nginx.get(uri("tasks.php", gate, workspace, tasks="gate")).text == "answered\n"
    request = site.deferd.wait_for(lambda: site.deferd.requests, 10.0, "the request's end")[0]
    assert request.outcome == "lost"
    assert any("gate 0" in cause for cause in site.deferd.causes_of(request))


def test_visitor_who_leaves_while_queued_never_reaches_php(start_site, start_fpm, gate, workspace):
    site = start_site(start_fpm(workers=1))
    running = Background(site.nginx.get, uri("slow.php", gate, workspace))
    wait_until(lambda: workspace.lines("marks") == ["waits"], what="the worker is busy")
    leaver = send_and_leave_open(site.nginx, uri("slow.php", gate, workspace, leaver=1))
    wait_until(lambda: site.deferd.sockets() >= 4, what="the second request is queued")
    close_quietly(leaver)
    request = site.deferd.wait_for_requests(1)[0]
    assert request.outcome == "client_gone"
    assert "leaver=1" in request.uri
    gate.open()
    assert running.result().text == " and the rest"
    assert site.nginx.get("/hello.php").status == 200
    assert workspace.lines("marks") == ["waits", "woke"]


def test_visitor_who_leaves_while_php_runs(frail, gate, workspace):
    leaver = send_and_leave_open(frail.nginx, uri("slow.php", gate, workspace))
    wait_until(lambda: workspace.lines("marks") == ["waits"], what="the script waits")
    close_quietly(leaver)
    assert frail.deferd.wait_for_requests(1)[0].outcome == "client_gone"
    gate.open()
    assert frail.nginx.get("/hello.php").status == 200


def test_visitor_who_leaves_in_the_deferred_phase_does_not_disturb_it(frail, gate, workspace):
    sock = send_and_leave_open(frail.nginx, uri("tasks.php", gate, workspace, tasks="gate,ok"))
    assert b"200 OK" in sock.recv(65536)
    wait_until(lambda: workspace.lines("marks") == ["waits 0"], what="the task waits")
    close_quietly(sock)
    gate.open()
    request = frail.deferd.wait_for_requests(1)[0]
    assert (request.outcome, request.done) == ("completed", 2)
    wait_for_marks(workspace, "waits 0", "ok 0", "ok 1")


def test_drain_waits_for_phps_deferred_work(start_site, shared_fpm, gate, workspace):
    site = start_site(shared_fpm)
    site.nginx.get(uri("tasks.php", gate, workspace, tasks="gate,ok"))
    wait_until(lambda: workspace.lines("marks") == ["waits 0"], what="the task waits")
    site.deferd.signal(signal.SIGTERM)
    site.deferd.wait_for_line("signal")
    assert site.deferd.running
    gate.open()
    assert site.deferd.wait() == 0
    assert site.deferd.requests[0].outcome == "completed"
