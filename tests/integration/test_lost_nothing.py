"""php-fpm ends workers while they are wanted: each request is run exactly once, and answered.

Workers that have served enough (pm.max_requests), a php-fpm that is stopped or reloaded, a backlog
with no room: all under load, with nginx in front.
"""

import threading
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from harness import Background, wait_until
from harness.daemon import sanitized
from harness.load import Request, send_all

POSTS = 2000 if sanitized() else 20000
MANY = 400 if sanitized() else 4000
PART = 50 if sanitized() else 300
PAGE = "/once.php"

# A worker ends after so many requests; none of the other reasons to end is as frequent.
SHORT_LIVED = {"pm.max_requests": 20}

# A graceful end: workers finish what they run. With the default, 0, running requests are killed, and
# then nobody can know which of them were run.
GRACEFUL = {"process_control_timeout": "15s"}


@dataclass(frozen=True)
class Run:
    """What the script left of one run."""

    id: str
    connection: str
    body: bool


@pytest.fixture(name="runs")
def fixture_runs(workspace):
    """runs(): what was run so far."""

    def runs():
        lines = [line.split() for line in workspace.lines("marks")]
        return [Run(line[0], line[2], line[3] == "body") for line in lines if line[1] == "ran"]

    return runs


@pytest.fixture(name="post_body")
def fixture_post_body(workspace):
    uri = f"{PAGE}?marks={workspace.path('marks')}"
    return lambda number: Request(str(number), "POST", uri, str(number))


@pytest.fixture(name="mixed")
def fixture_mixed(workspace, post_body):
    """mixed(number): POST with a body, POST without, GET, and GET again."""
    uri = f"{PAGE}?marks={workspace.path('marks')}"

    def mixed(number):
        if number % 4 == 0:
            return post_body(number)
        return Request(str(number), "POST" if number % 4 == 1 else "GET", f"{uri}&id={number}")

    return mixed


def with_option(request, name):
    return replace(request, uri=f"{request.uri}&{name}")


def assert_right(answers):
    """Each has the answer that is its own."""
    answers = list(answers)
    wrong = [
        answer for answer in answers if (answer.status, answer.text) != (200, answer.request.id)
    ]
    assert not wrong, f"{len(wrong)} of {len(answers)}: {wrong[:5]}"


def assert_nothing_was_sent_again(deferd):
    """A connection is used only when its worker is known to wait for a request."""
    assert [line for line in deferd.lines if "sent again" in line] == []


def assert_each_ran_once(answers, runs):
    """A GET may be run again when its worker was lost; a POST must not."""
    times = Counter(run.id for run in runs)
    wrong = {}
    for request in (answer.request for answer in answers):
        count = times.pop(request.id, 0)
        if count == 0 or (count > 1 and not request.safe):
            wrong[request] = count
    assert not wrong
    assert not times, "of requests that nobody sent"


def served(runs):
    """The runs of each connection."""
    by_connection = {}
    for run in runs:
        by_connection.setdefault(run.connection, []).append(run)
    return by_connection.values()


def assert_kept(runs):
    """Connections were used again, by POSTs and GETs, and none after a body."""
    assert any(len(of_one) > 1 for of_one in served(runs))
    after_body = [of_one for of_one in served(runs) if any(run.body for run in of_one[:-1])]
    assert not after_body


class Load:
    """Clients that send requests until they are told to end."""

    def __init__(self, nginx, make, clients=32):
        self._make = make
        self._ending = threading.Event()
        self.sent = 0
        self._background = Background(send_all, nginx, self._requests(), clients)

    def _requests(self):
        while not self._ending.is_set():
            yield self._make(self.sent)
            self.sent += 1

    def go_on(self, count):
        """Waits until so many more were sent."""
        wanted = self.sent + count
        wait_until(lambda: self.sent >= wanted, 15.0, f"{count} more requests")

    def let_end(self):
        self._ending.set()

    def end(self):
        """The Answers to all of them."""
        self.let_end()
        return self._background.result(20.0)


@pytest.fixture(name="load")
def fixture_load(releases):
    def load(nginx, make, **options):
        started = Load(nginx, make, **options)
        releases.append(started.let_end)
        return started

    return load


@pytest.mark.time_limit(120)
def test_posts_while_workers_come_and_go(start_site, start_fpm, post_body, runs):
    site = start_site(start_fpm(workers=8, pool=SHORT_LIVED))
    answers = send_all(site.nginx, map(post_body, range(POSTS)), clients=64)
    assert_right(answers)
    assert len(answers) == POSTS
    assert_each_ran_once(answers, runs())
    assert_nothing_was_sent_again(site.deferd)
    assert len({run.connection.split("/")[0] for run in runs()}) >= POSTS / 20
    assert all(len(of_one) == 1 for of_one in served(runs()))


@pytest.mark.time_limit(60)
def test_requests_of_all_kinds_while_workers_come_and_go(start_site, start_fpm, mixed, runs):
    site = start_site(start_fpm(workers=8, pool=SHORT_LIVED))
    answers = send_all(site.nginx, map(mixed, range(POSTS // 2)), clients=64)
    assert_right(answers)
    assert len(answers) == POSTS // 2
    assert_each_ran_once(answers, runs())
    assert_nothing_was_sent_again(site.deferd)
    assert_kept(runs())


@pytest.mark.time_limit(60)
def test_requests_while_php_fpm_is_reloaded(start_site, start_fpm, mixed, runs, load):
    """SIGUSR2: all workers are told to end, among them those that wait on idle connections."""
    fpm = start_fpm(workers=8, options=GRACEFUL)
    site = start_site(fpm)
    clients = load(site.nginx, mixed)
    for _ in range(8):
        clients.go_on(PART)
        fpm.reload()
    clients.go_on(PART)
    answers = clients.end()
    assert_right(answers)
    assert_each_ran_once(answers, runs())
    assert_kept(runs())


@pytest.mark.time_limit(60)
def test_requests_while_one_php_fpm_of_two_is_away(start_site, start_fpm, mixed, runs, load):
    """What was sent to the one that stops, or waits in its backlog, goes to the other."""
    first, second = (start_fpm(workers=4, options=GRACEFUL) for _ in range(2))
    site = start_site(first, arguments=["--upstream", f"{second.address},max_workers=4"])
    clients = load(site.nginx, mixed)
    for fpm in [first, second] * 2:
        clients.go_on(PART)
        assert fpm.stop() == 0
        clients.go_on(PART)
        fpm.start()
    clients.go_on(PART)
    answers = clients.end()
    assert_right(answers)
    assert_each_ran_once(answers, runs())
    assert_kept(runs())
    assert site.deferd.has_line("cannot connect")


@pytest.mark.time_limit(60)
def test_no_post_runs_twice_though_workers_are_killed(start_site, start_fpm, mixed, runs, load):
    """What a worker was running when it died is lost, or it may have been run: a 502."""
    fpm = start_fpm(workers=8)
    site = start_site(fpm)
    clients = load(site.nginx, lambda number: with_option(mixed(number), "linger"))
    for number in range(40):
        clients.go_on(10)
        fpm.kill_worker(fpm.workers()[number % 4])
        fpm.wait_for_workers()
    answers = clients.end()
    assert_right(answer for answer in answers if answer.status != 502)
    times = Counter(run.id for run in runs())
    posts = [answer for answer in answers if not answer.request.safe]
    assert {answer for answer in posts if times[answer.request.id] > 1} == set()
    assert [answer for answer in answers if answer.status == 200 and not times[answer.request.id]] == []
    assert any(answer.status == 502 and times[answer.request.id] for answer in posts)


@pytest.mark.time_limit(60)
def test_five_hundred_clients_before_a_backlog_of_one(start_site, start_fpm, mixed, runs):
    """More slots than workers, so that php-fpm has no room for what deferd sends."""
    fpm = start_fpm(workers=4, pool={"listen.backlog": 1})
    site = start_site(fpm, max_workers=32, arguments=["--queue-max", "1000"])
    answers = send_all(site.nginx, map(mixed, range(MANY)), clients=500)
    assert_right(answers)
    assert len(answers) == MANY
    assert_each_ran_once(answers, runs())
    assert site.deferd.has_line("its backlog is full")


@pytest.mark.time_limit(60)
@pytest.mark.parametrize("how", ["native", "defer"])
def test_deferred_work_while_workers_come_and_go(
    start_site, start_fpm, workspace, mixed, runs, how
):
    """A worker is not ended, nor its connection used again, before its deferred work is done."""
    site = start_site(start_fpm(workers=8, pool=SHORT_LIVED))
    requests = (with_option(mixed(number), how) for number in range(MANY))
    answers = send_all(site.nginx, requests, clients=64)
    assert_right(answers)
    assert len(answers) == MANY
    assert site.deferd.stop() == 0
    assert_each_ran_once(answers, runs())
    assert_nothing_was_sent_again(site.deferd)
    assert_kept(runs())
    deferred = [line.split()[0] for line in workspace.lines("marks") if line.endswith(" deferred")]
    assert sorted(deferred, key=int) == [str(number) for number in range(MANY)]
    outcomes = Counter(request.outcome for request in site.deferd.requests)
    assert outcomes == {"completed" if how == "defer" else "answered": MANY}
