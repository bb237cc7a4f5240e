"""What deferd sees of the PHP package: progress, stops, fatal errors, watched callbacks."""

import json

import pytest
from harness import deferctl, wait_until


@pytest.fixture(name="master")
def fixture_master(start_master, shared_fpm, workspace):
    stop_dir = workspace.make_directory("stop")
    return start_master(shared_fpm, options={"stop_dir": stop_dir}, max_workers=4)


@pytest.fixture(name="get")
def fixture_get(connect, master, gate, workspace, script):
    """get("watched.php", tasks="ok"): sends the request, and has the whole response."""

    def get(name, method="GET", **query):
        query = {"gate": gate.path, "marks": workspace.path("marks"), **query}
        uri = f"/{name}?" + "&".join(f"{key}={value}" for key, value in query.items())
        response = connect(master).request(method, uri, script=script(name))
        assert response.complete and response.body == (b"answered\n" if method == "GET" else b"")

    return get


def phases(master, *arguments):
    result = deferctl("-s", master.control, "list", "--json", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def ended(master):
    return master.wait_for_requests(1)[0]


def test_progress_is_listed_while_the_callback_runs(master, get, gate, workspace):
    get("package.php", tasks="progress")
    wait_until(lambda: "two of five" in json.dumps(phases(master)), what="its progress")
    gate.open()
    assert (ended(master).outcome, ended(master).done) == ("completed", 1)
    assert workspace.lines("marks") == ["goes on"]


def test_a_callback_hears_of_a_stop(master, get, gate, workspace):
    get("package.php", tasks="progress,ok")
    wait_until(lambda: "two of five" in json.dumps(phases(master)), what="its progress")
    assert deferctl("-s", master.control, "stop", "1").returncode == 0
    gate.open()
    request = ended(master)
    assert (request.outcome, request.done, request.skipped) == ("stopped", 1, 1)
    assert workspace.lines("marks") == ["stopped"]


@pytest.mark.parametrize("tasks, query", [
    ("ok,limit,ok,ok", {}),
    ("ok,limit,ok,ok", {"run": 1}),
    ("ok,memory,ok,ok", {"run": 1}),
])
def test_the_rest_after_a_fatal_error_is_accounted_for(master, get, workspace, tasks, query):
    get("package.php", tasks=tasks, **query)
    request = ended(master)
    assert (request.outcome, request.done, request.failed, request.skipped) == ("failed", 1, 1, 2)
    assert "Fatal error: " in master.causes_of(request)[0]
    assert workspace.lines("marks") == ["ok 0"]


def test_memory_that_runs_out_at_the_end_of_the_request_is_lost_by_name(master, get, workspace):
    get("package.php", tasks="ok,memory,ok")
    request = ended(master)
    assert (request.outcome, request.done) == ("lost", 1)
    cause = " ".join(master.causes_of(request))
    assert "memory 1" in cause and "ok 2" in cause and "ok 0" not in cause
    assert workspace.lines("marks") == ["ok 0"]


def test_watched_callbacks_and_deferred_ones_share_a_phase(master, get, workspace):
    get("watched.php")
    request = ended(master)
    assert (request.outcome, request.done, request.failed, request.skipped) == ("failed", 2, 1, 1)
    assert "archive" in master.causes_of(request)[0]
    assert "no disk" in master.causes_of(request)[0]
    assert workspace.lines("marks") == ["report", "no disk", "mail"]


def test_on_head_they_run_unseen(master, get, workspace):
    get("watched.php", method="HEAD")
    assert ended(master).outcome == "unreported"
    assert workspace.lines("marks") == ["report", "no disk", "mail"]
