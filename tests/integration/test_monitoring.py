"""The status page in a real browser; metrics and rules as Prometheus's own tool reads them.

`make monitoring` installs what is needed and runs these; `make test` calls it.
"""

import json
import os
import re
import subprocess

import pytest
import yaml
from harness import FcgiClient, wait_until
from harness.browser import Browser
from harness.daemon import REPOSITORY, find_binary
from harness.exposition import parse
from test_metrics import Scraped
from test_status import HOSTILE, TASK

pytestmark = [pytest.mark.monitoring, pytest.mark.time_limit(60)]

MONITORING = REPOSITORY / "docs" / "monitoring"
METRIC = re.compile(r"\bdeferd_[a-z0-9_]+")


def promtool(*arguments, text=None):
    tool = os.environ.get("PROMTOOL", "promtool")
    result = subprocess.run([tool, *arguments], input=text, capture_output=True, text=True,
                            timeout=30, check=False)
    return result.returncode, result.stdout + result.stderr


# --- Prometheus --------------------------------------------------------------------------------


def test_promtool_finds_nothing_wrong_with_the_metrics(start_deferd, peer, releases, connect):
    deferd = start_deferd(peer, arguments=["--metrics-listen", "127.0.0.1:0", "--class", "gold"])
    client = connect(deferd)
    for outcome in ("answered", "deferred", "lost"):
        client.send_request(uri=f"/{outcome}", keep=True)
        connection = peer.accept_request()
        if outcome == "answered":
            connection.answer()
        else:
            connection.answer_and_defer()
        assert client.read_response().complete
        if outcome == "deferred":
            connection.finish_tasks()
        connection.close()
    deferd.wait_for_requests(3)
    body = Scraped(deferd, releases).get()[2]
    assert promtool("check", "metrics", text=body) == (0, "")
    assert promtool("check", "metrics", text=body.replace("_total", ""))[0] != 0


def test_promtool_finds_nothing_wrong_with_the_rules():
    status, said = promtool("check", "rules", str(MONITORING / "alerts.yml"))
    assert status == 0, said
    assert re.search(r"SUCCESS: \d+ rules found", said)


def known_metrics():
    """All names of samples that deferd has, from its documentation."""
    printed = subprocess.run([find_binary(), "--print-metrics"], capture_output=True, text=True,
                             check=True).stdout
    names = set()
    for name, kind in re.findall(r"^\| `(deferd_\w+)` \| (\w+)", printed, re.M):
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {name + suffix for suffix in suffixes}
    return names


def test_rules_and_dashboard_name_metrics_that_there_are(start_deferd, peer, releases):
    known = known_metrics()
    deferd = start_deferd(peer, arguments=["--metrics-listen", "127.0.0.1:0"])
    families = parse(Scraped(deferd, releases).get()[2]).values()
    assert known == {name for family in families for name, _ in family.samples}
    rules = (MONITORING / "alerts.yml").read_text(encoding="utf-8")
    alerts = yaml.safe_load(rules)["groups"][0]["rules"]
    dashboard = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))
    expressions = [alert["expr"] for alert in alerts]
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert panels and expressions
    for expression in expressions + panels:
        used = set(METRIC.findall(expression))
        assert used <= known, expression
    assert all(METRIC.search(expression) for expression in panels)


def test_dashboard_s_expressions_are_promql(workspace):
    dashboard = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))
    rules = []
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m")
            rules.append({"record": f"panel:{len(rules)}", "expr": expression})
    path = workspace.write("panels.yml", yaml.safe_dump({"groups": [{"name": "p", "rules": rules}]}))
    status, said = promtool("check", "rules", path)
    assert status == 0, said


# --- the page in Chromium ----------------------------------------------------------------------


@pytest.fixture(name="start_browser")
def fixture_start_browser(workspace):
    """start_browser(…): a Browser that ends with the test."""
    return lambda **options: workspace.enter(Browser(workspace, **options))


@pytest.fixture(name="site")
def fixture_site(start_deferd, start_nginx, peer):
    """deferd with a status page, behind nginx."""
    deferd = start_deferd(peer, max_workers=4, arguments=["--status-path", "/status"])
    return deferd, start_nginx(deferd)


def defer(deferd, connect, peer, uri, tasks):
    client = connect(deferd)
    client.send_request(params={"REQUEST_URI": uri.encode()})
    connection = peer.accept_request()
    connection.answer_and_defer(tasks=tasks)
    assert client.read_response().complete
    connection.wait_read()
    return connection


def rows(browser, selector):
    return browser.evaluate(
        f"[...document.querySelectorAll('{selector} tbody tr')].map(row => row.innerText)")


def cells(browser, state):
    return browser.evaluate(f"document.querySelectorAll('#cells .{state}').length")


def test_page_is_live_without_complaints_and_asks_only_its_own_host(site, start_browser, connect,
                                                                    peer):
    deferd, nginx = site
    browser = start_browser()
    browser.open(nginx.url + "/status?html")
    wait_until(lambda: browser.text("#live") == "live", 10)
    assert browser.text("h1") == "deferd www"
    assert (cells(browser, "free"), cells(browser, "deferred")) == (4, 0)
    assert "None is under way" in browser.text("#phases")

    connection = defer(deferd, connect, peer, "/order", ["mail", "index"])
    connection.report({"event": "start", "task": 0})
    wait_until(lambda: any("1/2 mail" in row for row in rows(browser, "#phases")), 10)
    assert (cells(browser, "free"), cells(browser, "deferred")) == (3, 1)
    connection.report({"event": "done", "task": 0, "ms": 1}, {"event": "start", "task": 1})
    wait_until(lambda: any("2/2 index" in row for row in rows(browser, "#phases")), 10)
    assert browser.evaluate("document.querySelector('#phases .meter i').style.width") == "50%"
    connection.close()
    wait_until(lambda: any("lost" in row and "index" in row for row in rows(browser, "#failures")),
               10)
    wait_until(lambda: cells(browser, "free") == 4, 10)

    assert browser.evaluate("document.querySelectorAll('#charts svg').length") == 5
    wait_until(lambda: browser.evaluate(
        "[...document.querySelectorAll('#charts .series')].some(p => p.getAttribute('d'))"), 10)
    assert browser.complaints == []
    assert set(browser.urls) - {"data:,"} == {
        nginx.url + "/status?html", nginx.url + "/status?json&full"}
    assert len(browser.urls) > 3


def test_page_shows_the_phases_of_workers_that_drain_beside_its_own(
        start_master, start_nginx, peer, start_browser, connect):
    """They hold none of the workers in the picture, which are those of the worker that works."""
    master = start_master(peer, max_workers=4, pool={"status_path": "/status"})
    nginx = start_nginx(master)
    draining = defer(master, connect, peer, "/draining", ["old"])
    master.reload()
    defer(master, connect, peer, "/own", ["new"])
    browser = start_browser()
    browser.open(nginx.url + "/status?html")
    wait_until(lambda: len(rows(browser, "#phases")) == 2, 10)
    assert ["/draining" in row for row in rows(browser, "#phases")] == [True, False]
    assert browser.text("#phases-note") == (
        "1 under way, at most 4; 1 more in workers that drain")
    assert (cells(browser, "free"), cells(browser, "deferred")) == (3, 1)
    draining.finish_tasks()
    wait_until(lambda: len(rows(browser, "#phases")) == 1, 10)
    assert browser.text("#phases-note") == "1 under way, at most 4"
    assert browser.complaints == []


def test_hostile_texts_are_text(site, start_browser, connect, peer):
    deferd, nginx = site
    attack = "<img src=x onerror=\"window.evil=1\"><script>window.evil=1</script>"
    lost = defer(deferd, connect, peer, "/lost?" + attack, [attack])
    lost.close()
    deferd.wait_for_requests(1)
    defer(deferd, connect, peer, "/runs?" + attack, [attack])
    defer(deferd, connect, peer, HOSTILE, [TASK])
    client = connect(deferd)
    client.send_request(attack, params={"REQUEST_METHOD": attack, "REQUEST_URI": attack})
    peer.accept_request()
    browser = start_browser()
    browser.open(nginx.url + "/status?html&" + "%3Cscript%3Ewindow.evil=1%3C/script%3E")
    wait_until(lambda: browser.text("#live") == "live", 10)
    for selector in ("#phases", "#failures", "#requests"):
        assert any(attack in row for row in rows(browser, selector))
    assert browser.evaluate("typeof window.evil") == "undefined"
    assert browser.evaluate("document.querySelectorAll('img, iframe, object').length") == 0
    assert browser.evaluate("document.querySelectorAll('script').length") == 1
    assert browser.complaints == []


def test_page_says_when_deferd_is_away(site, start_browser):
    deferd, nginx = site
    browser = start_browser()
    browser.open(nginx.url + "/status?html")
    wait_until(lambda: browser.text("#live") == "live", 10)
    deferd.stop()
    wait_until(lambda: "no answer" in browser.text("#live"), 10)
    deferd.start()
    wait_until(lambda: browser.text("#live") == "live", 10)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_fits_a_phone(site, start_browser, connect, peer, dark):
    deferd, nginx = site
    connection = defer(deferd, connect, peer, "/" + "long" * 300, ["task" * 30])
    browser = start_browser(width=360, height=740, dark=dark)
    browser.open(nginx.url + "/status?html")
    wait_until(lambda: browser.text("#live") == "live", 10)
    assert rows(browser, "#phases")
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert brightness < 60 if dark else brightness > 200
    assert browser.complaints == []
    connection.finish_tasks()


def test_many_workers_are_a_bar(start_deferd, start_nginx, peer, start_browser, connect):
    deferd = start_deferd(peer, max_workers=5000, arguments=["--status-path", "/status"])
    nginx = start_nginx(deferd)
    client = connect(deferd)
    client.send_request()
    peer.accept_request()
    browser = start_browser()
    browser.open(nginx.url + "/status?html")
    wait_until(lambda: browser.text("#live") == "live", 10)
    assert browser.evaluate("getComputedStyle(document.querySelector('#cells')).display") == "none"
    label = browser.evaluate("document.querySelector('#bar').getAttribute('aria-label')")
    assert label.startswith("1 running") and label.endswith("4999 free")
    with FcgiClient(deferd.address) as other:
        assert other.request(uri="/status").status == 200
