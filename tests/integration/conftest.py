"""Fixtures: deferd with a scripted peer, or between the real nginx and php-fpm.

What a test starts ends with it, in the order clients, peers, deferd, php-fpm:
a drain must not wait for a request that the test has forgotten. The binary
under test is DEFERD_BIN, or what `make` built; DEFERD_SANITIZED=1 says that it
is a sanitizer build.
"""

import faulthandler
import pathlib
import signal
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

# pylint: disable=wrong-import-position
from harness import (  # noqa: E402
    Deferd, FcgiClient, FcgiPeer, Fpm, Gate, Master, Nginx, Workspace,
)
from harness.daemon import sanitized  # noqa: E402

PHP = pathlib.Path(__file__).resolve().parent / "php"
TIME_LIMIT = 20.0
PROCESSES = pytest.StashKey()


class TimeLimit(Exception):
    """A test took too long."""


def _limit(item):
    marker = item.get_closest_marker("time_limit")
    seconds = marker.args[0] if marker else TIME_LIMIT
    return seconds * (4 if sanitized() else 1)


def _with_time_limit(item):
    """Interrupts the main thread; the last word has faulthandler, which only tells where."""
    seconds = _limit(item)

    def expired(_signal, _frame):
        raise TimeLimit(f"still not done after {seconds} s")

    previous = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + 30, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    item.stash[PROCESSES] = []
    yield from _with_time_limit(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    yield from _with_time_limit(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    yield from _with_time_limit(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for process in item.stash.get(PROCESSES, []):
            report.sections.append((f"log of {process.name} ({call.when})", process.tail()))


@pytest.fixture(name="workspace")
def fixture_workspace():
    with Workspace() as workspace:
        yield workspace


@pytest.fixture(name="releases")
def fixture_releases():
    """Calls that let go of everything a deferd may still be waiting for."""
    return []


@pytest.fixture(name="start_deferd")
def fixture_start_deferd(request, workspace, releases):
    """start_deferd(upstream, max_workers=…): a running Deferd on a unix socket.

    Towards a scripted peer it keeps no connection, and so sends no barrier, unless
    a test says otherwise.
    """
    count = 0

    def start(upstream, listen=None, **options):
        nonlocal count
        count += 1
        listen = listen or workspace.path(f"deferd-{count}.sock")
        address = upstream.address if hasattr(upstream, "address") else upstream
        if not isinstance(upstream, Fpm):
            options.setdefault("keepalive", "no")
        deferd = Deferd(listen, address, **options)
        request.node.stash[PROCESSES].append(deferd)
        workspace.enter(deferd)
        workspace.callback(lambda: [release() for release in reversed(releases)])
        return deferd

    return start


@pytest.fixture(name="start_master")
def fixture_start_master(request, workspace, releases):
    """start_master(upstream, pool={…}, options={…}): a running Master with the pool `www`.

    Towards a scripted peer it keeps no connection, as start_deferd's.
    """
    count = 0

    def start(upstream, **options):
        nonlocal count
        count += 1
        if not isinstance(upstream, Fpm):
            options["pool"] = {"upstream.keepalive": "no", **(options.get("pool") or {})}
        master = Master(workspace, upstream, name=f"master-{count}", **options)
        request.node.stash[PROCESSES].append(master)
        workspace.enter(master)
        workspace.callback(lambda: [release() for release in reversed(releases)])
        return master

    return start


@pytest.fixture(name="start_peer")
def fixture_start_peer(workspace, releases):
    """start_peer(address): a listening FcgiPeer, on a unix socket if nothing is said."""
    count = 0

    def start(address=None, **options):
        nonlocal count
        count += 1
        peer = FcgiPeer(address or workspace.path(f"peer-{count}.sock"), **options)
        workspace.enter(peer)
        releases.append(peer.end)
        return peer

    return start


@pytest.fixture(name="connect")
def fixture_connect(releases):
    """connect(deferd): a new FcgiClient, closed at the test's end."""

    def connect(deferd, **options):
        client = FcgiClient(getattr(deferd, "address", deferd), **options)
        releases.append(client.close)
        return client

    yield connect


@pytest.fixture(name="peer")
def fixture_peer(start_peer):
    return start_peer()


@pytest.fixture(name="deferd")
def fixture_deferd(start_deferd, peer):
    """deferd with four worker slots towards the scripted peer."""
    return start_deferd(peer, max_workers=4)


@pytest.fixture(name="client")
def fixture_client(connect, deferd):
    return connect(deferd)


@pytest.fixture(name="gate")
def fixture_gate(workspace, releases):
    """Holds PHP's deferred work back until the test opens it."""
    with Gate(workspace.path("gate")) as gate:
        releases.append(gate.open)
        yield gate


@pytest.fixture(name="shared_fpm", scope="session")
def fixture_shared_fpm():
    """A php-fpm for all tests that do it no harm."""
    with Workspace() as workspace, Fpm(workspace, workers=8) as fpm:
        yield fpm


@pytest.fixture(name="start_fpm")
def fixture_start_fpm(request, workspace):
    """start_fpm(workers=…): a php-fpm that the test may harm."""
    count = 0

    def start(**options):
        nonlocal count
        count += 1
        fpm = Fpm(workspace, name=f"fpm-{count}", **options)
        request.node.stash[PROCESSES].append(fpm)
        return workspace.enter(fpm)

    return start


@pytest.fixture(name="start_nginx")
def fixture_start_nginx(request, workspace):
    """start_nginx(upstream): an nginx with this folder's PHP scripts as its root."""
    count = 0

    def start(upstream, **options):
        nonlocal count
        count += 1
        address = upstream.address if hasattr(upstream, "address") else upstream
        nginx = Nginx(workspace, address, str(PHP), name=f"nginx-{count}", **options)
        request.node.stash[PROCESSES].append(nginx)
        return workspace.enter(nginx)

    return start


class Site:
    """nginx, deferd and php-fpm in a row."""

    def __init__(self, nginx, deferd, fpm):
        self.nginx = nginx
        self.deferd = deferd
        self.fpm = fpm

    def wait_until_kept(self):
        """Waits until deferd knows that it may keep connections; wants its debug level."""
        self.deferd.wait_for_line("connections can be kept")


@pytest.fixture(name="start_site")
def fixture_start_site(start_nginx, start_deferd):
    """start_site(fpm, max_workers=…): deferd and nginx in front of an Fpm."""

    def start(fpm, nginx=None, **options):
        options.setdefault("max_workers", fpm.workers_wanted)
        deferd = start_deferd(fpm, **options)
        return Site(start_nginx(deferd, **(nginx or {})), deferd, fpm)

    return start


@pytest.fixture(name="site")
def fixture_site(start_site, shared_fpm):
    return start_site(shared_fpm)


@pytest.fixture(name="script")
def fixture_script():
    """script("hello.php"): its absolute path, for SCRIPT_FILENAME."""
    return lambda name: str(PHP / name)
