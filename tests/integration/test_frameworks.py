"""Each framework's application behind nginx, deferd and php-fpm, and straight on php-fpm.

The callbacks are held back until the client has the response, so a callback in front of it would
let none come. docs/frameworks.md says what is seen here, with times.
"""

import gzip
import json
import pathlib
import re

import pytest
from frameworks import table
from frameworks.catalog import FRAMEWORKS, KINDS, SESSION
from frameworks.site import Site
from harness import Workspace
from harness.apps import EXAMPLES, PACKAGE

# A first run waits for Composer.
pytestmark = pytest.mark.time_limit(300)

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "frameworks.md"
DEFERRING = [kind for kind in KINDS if kind.deferring]
PLAIN = next(kind for kind in KINDS if not kind.deferring)


@pytest.fixture(name="framework", scope="module", params=FRAMEWORKS, ids=str)
def fixture_framework(request):
    return request.param


@pytest.fixture(name="behind", scope="module")
def fixture_behind(framework):
    with Workspace() as workspace:
        site = Site(workspace, framework)
        print(f"{framework.title} {site.version}")
        yield site


@pytest.fixture(name="alone", scope="module")
def fixture_alone(framework):
    """Without deferd. With one worker, the next request is answered when the callbacks are over."""
    with Workspace() as workspace:
        yield Site(workspace, framework, deferd=False, workers=1)


@pytest.mark.parametrize("kind", DEFERRING, ids=lambda kind: kind.name)
def test_callbacks_run_once_behind_the_response_in_its_worker(behind, kind):
    seen = behind.visit(kind)
    assert seen.callbacks == ("first", "second")
    assert seen.same_worker
    if kind.method == "HEAD":
        assert seen.outcome == "unreported"
    else:
        assert re.match("completed: .*first done, second done", seen.outcome)
        assert re.search("(^|, )first, second(,|$)", seen.logged)
    assert (seen.headers.get("content-encoding") == "gzip") == (kind.path == "/compressed")
    if kind.path == "/compressed":
        assert len(gzip.decompress(seen.body)) >= 20000


def test_request_that_defers_nothing_has_no_task(behind):
    """A framework that works after the response itself has an empty phase, which the log shows."""
    seen = behind.visit(PLAIN)
    assert (seen.status, seen.callbacks) == (200, ())
    assert seen.outcome in ("answered", "completed")


@pytest.mark.parametrize("kind", DEFERRING, ids=lambda kind: kind.name)
def test_without_deferd_the_callbacks_run_behind_the_response_too(behind, alone, kind):
    with alone.fifo() as fifo, alone.fifo() as other:
        response = alone.request(kind, fifo)
        fifo.open()
        assert alone.request(PLAIN, other).status == 200
        [worker] = alone.fpm.workers()
        assert fifo.lines() == [f"{worker} first", f"{worker} second"]
    assert response.status == behind.visit(kind).status


def count(response):
    return int(re.findall(r"\d+", response.text)[-1])


def test_session_is_there_in_the_next_request_which_does_not_wait(behind):
    with behind.fifo() as fifo, behind.fifo() as other:
        first = behind.request(SESSION, fifo)
        second = behind.request(SESSION, other, headers={"Cookie": first.cookies})
        assert (count(first), count(second)) == (1, 2)
        for each in (fifo, other):
            each.open()
            assert behind.outcome(behind.uri(SESSION, each)).startswith("completed: ")
            assert len(each.lines()) == 2


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*/composer.json")),
                         ids=lambda example: example.parent.name)
def test_example_finds_the_package_where_it_stands(example):
    """`composer install` in its folder needs no more than Composer's own registry."""
    wanted = json.loads(example.read_text("utf-8"))
    places = [(example.parent / each["url"]).resolve() for each in wanted["repositories"]
              if each["type"] == "path"]
    assert places == [PACKAGE]
    assert wanted["require"]["deferd/defer"] == "*@dev"


def test_document_says_what_a_run_sees(framework, behind):
    claimed = table.claims(DOCUMENT.read_text("utf-8"))[framework.title]
    assert table.without_times(claimed) == table.without_times(table.table(behind))


def test_document_speaks_of_these_frameworks():
    assert list(table.claims(DOCUMENT.read_text("utf-8"))) == [each.title for each in FRAMEWORKS]
