"""What can be measured at a Site: each takes it and the seconds a run is to last, gives figures."""

import contextlib
import time

import wrk
from harness import Deferd, FcgiClient, FcgiPeer, Workspace
from harness.peer import PeerConnection
from sites import on_cores

# How long a flood runs before plain requests join it: its first phases fill the workers at once.
FLOOD_AHEAD = 0.5


def requests(site, seconds, path="/hello.php", **options):
    """wrk; and the CPU time each program took for a request."""
    before = site.cpu_seconds()
    figures = wrk.run(site.nginx.url + path, seconds=seconds, **options)
    after = site.cpu_seconds()
    for name, spent in after.items():
        figures[f"cpu_{name}"] = (spent - before[name]) * 1e6 / max(1, figures["requests"])
    figures["cpu"] = sum(figures[f"cpu_{name}"] for name in after)
    return figures


def paced(site, seconds, path):
    """About 50 requests a second: if each holds a worker for 100 ms, five are busy. It takes its
    time, or a tail of so few would be a matter of luck."""
    return requests(site, 3 * seconds, path, connections=2, pause_ms=40)


def starving(site, seconds):
    """256 connections for long enough that wrk can give some up after 2 seconds."""
    return requests(site, 2 * seconds, connections=256, timeout=2)


def beside_flood(site, seconds, flood, flooders):
    """Plain requests, a hundred a second at most, while others want all workers for their phases.

    What is left of the flood afterwards only sleeps, and hinders nobody else.
    """
    with wrk.running(site.nginx.url + flood, flooders, seconds + 60):
        time.sleep(FLOOD_AHEAD)
        return requests(site, seconds, connections=4, pause_ms=40)


# --- memory -----------------------------------------------------------------------------------


def phases(site, _seconds, count, path):
    """So many deferred phases at once: the memory of all programs together, at its highest."""
    before = len(site.deferd.requests)
    with on_cores(one=site.way.one_core):
        _get_at_once(site.nginx, path, count)
        under_way = count - (len(site.deferd.requests) - before)
        memory = [site.pss_mb()]
        finished = site.deferd.wait_for_requests(before + count, timeout=60)[before:]
        memory.append(site.pss_mb())
    most = max(memory, key=lambda programs: sum(programs.values()))
    return {
        "memory": sum(most.values()),
        **{f"memory_{name}": mb for name, mb in most.items()},
        "completed": sum(request.outcome == "completed" for request in finished),
        "under_way": under_way,
    }


def _get_at_once(nginx, path, count):
    """Sends all requests before it reads the first response; all must be right."""
    sockets = [nginx.socket(60.0) for _ in range(count)]
    for sock in sockets:
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: bench\r\n\r\n".encode())
    for sock in sockets:
        with sock, sock.makefile("rb") as answer:
            if b" 200 " not in answer.readline() or not answer.read().endswith(b"hello"):
                raise AssertionError("a response that is not the script's")


@contextlib.contextmanager
def _deferd_before_peer(workers):
    """deferd before a scripted application, which can hold more phases than php-fpm has workers."""
    with Workspace() as workspace:
        peer = workspace.enter(FcgiPeer(workspace.path("peer.sock")))
        deferd = workspace.enter(Deferd(workspace.path("deferd.sock"), peer.address, keepalive="no",
                                        max_workers=workers, log_level="error"))
        workspace.callback(peer.end)  # first: deferd waits for phases that are under way
        yield deferd, peer


def _one_request(client, peer, answer):
    client.send_request(params={"HTTP_COOKIE": "c" * 2000}, keep=True)
    connection = peer.accept()
    connection.read_request()
    answer(connection)
    if not client.read_response().complete:
        raise AssertionError("an incomplete response")
    return connection


def _kib_each(deferd, before, count):
    if deferd.sockets() < count:
        raise AssertionError("deferd does not have them all")
    return {"kib_each": (deferd.anonymous_kb() - before) / count}


def idle_connections(_site, _seconds, count):
    """deferd's memory for each connection of a web server that is idle after a request."""
    with _deferd_before_peer(workers=16) as (deferd, peer), contextlib.ExitStack() as stack:
        before = deferd.anonymous_kb()
        for _ in range(count):
            client = stack.enter_context(FcgiClient(deferd.address))
            _one_request(client, peer, PeerConnection.answer).close()
        return _kib_each(deferd, before, count)


def deferred_phases(_site, _seconds, count):
    """deferd's memory for each deferred phase: two tasks announced, the first under way."""
    def answer(connection):
        connection.answer_and_defer(tasks=["confirm order", "reindex"])
        connection.report({"event": "start", "task": 0})

    with _deferd_before_peer(workers=count) as (deferd, peer):
        with FcgiClient(deferd.address) as client:
            before = deferd.anonymous_kb()
            for _ in range(count):
                _one_request(client, peer, answer)
            return _kib_each(deferd, before, count)
