"""Without a framework: what test_frameworks.py does not say; an application laid out like WordPress."""

import pytest
from frameworks.catalog import FRAMEWORKS, Framework, Kind
from frameworks.site import Site
from harness import control, wait_until
from harness.nginx import close_quietly

PLAIN = next(each for each in FRAMEWORKS if each.app == "plain")
WORDPRESS_LIKE = Framework("laid out like WordPress", "wordpress-like", lambda _app: "")
PAGE = Kind("a page", "GET", "/")
SAVE = Kind("two plugins defer", "GET", "/save")
VISIT = Kind("a plugin works on shutdown, too", "GET", "/visit")
CRON = Kind("wp-cron", "POST", "/wp-cron.php")


def test_failing_callback_is_reported_and_the_next_ones_run(workspace):
    site = Site(workspace, PLAIN)
    seen = site.visit(Kind("failing", "GET", "/throws"))
    assert (seen.status, seen.callbacks) == (200, ("first", "second"))
    assert seen.outcome == "failed: mail failed, first done, second done"
    site.deferd.wait_for_cause("mail.*RuntimeException: the mail server is away")


@pytest.fixture(name="blog")
def fixture_blog(workspace):
    return Site(workspace, WORDPRESS_LIKE)


def test_plugins_with_a_defer_each_share_one_deferred_phase(blog):
    seen = blog.visit(SAVE)
    assert (seen.body, seen.callbacks) == (b"a page\n", ("reindex 7", "mail 7"))
    assert seen.same_worker
    assert seen.outcome == "completed: reindex done, mail done"


def test_work_on_shutdown_is_done_behind_the_page_and_seen_by_name(blog):
    seen = blog.visit(VISIT)
    assert (seen.body, seen.callbacks) == (b"a page\n", ("statistics", "reindex 7", "mail 7"))
    assert seen.outcome == "completed: send_statistics done, reindex done, mail done"


def test_page_on_which_nobody_works_later_has_no_deferred_phase(blog):
    seen = blog.visit(PAGE)
    assert (seen.body, seen.outcome) == (b"a page\n", "answered")


def test_without_deferd_the_page_does_not_wait_either(workspace):
    site = Site(workspace, WORDPRESS_LIKE, deferd=False, workers=1)
    with site.fifo() as fifo, site.fifo() as other:
        assert site.request(VISIT, fifo).text == "a page\n"
        fifo.open()
        # The only worker answers when it has done all that.
        assert site.request(PAGE, other).text == "a page\n"
        [worker] = site.fpm.workers()
        assert fifo.lines() == [f"{worker} {name}" for name in ("statistics", "reindex 7", "mail 7")]


def test_cron_whose_client_did_not_wait_runs_when_a_worker_is_free(workspace):
    """WordPress calls its own wp-cron.php and leaves after 10 ms; nginx is told to stay."""
    site = Site(workspace, WORDPRESS_LIKE, workers=1,
                location="            fastcgi_ignore_client_abort on;\n")
    with site.fifo() as busy, site.fifo() as fifo:
        assert site.request(SAVE, busy).status == 200
        client = site.nginx.socket()
        client.sendall(f"POST {site.uri(CRON, fifo)} HTTP/1.1\r\nHost: blog\r\n"
                       "Content-Length: 0\r\n\r\n".encode())
        wait_until(lambda: site.status()["waiting"] == 1, what="wp-cron.php in the queue")
        close_quietly(client)
        # nginx has heard of that end when it answers another client, by itself.
        assert site.nginx.request("TRACE", "/").status == 405
        busy.open()
        fifo.open()
        assert site.outcome(site.uri(CRON, fifo)) == "answered"
        assert [line.split()[1] for line in fifo.lines()] == ["cron"]
