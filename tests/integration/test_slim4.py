"""The Slim 4 example: what is its own and PSR-15's. What all have in common: test_frameworks.py."""

import pytest
from frameworks.catalog import FRAMEWORKS, Kind
from frameworks.site import Site

pytestmark = pytest.mark.time_limit(300)

SLIM4 = next(each for each in FRAMEWORKS if each.app == "slim4")
GET = Kind("GET", "GET", "/get")
ERROR = Kind("error page", "GET", "/error")
THROWS = Kind("failing", "GET", "/throws")
MISSING = Kind("no route", "GET", "/missing")
DEPENDENCIES = "app/dependencies.php"


@pytest.fixture(name="site")
def fixture_site(workspace):
    return Site(workspace, SLIM4)


def test_callbacks_run_at_the_end_of_the_request_when_run_is_forgotten(site):
    site.app.edit("public/index.php", "$container->get(Defer::class)->run();", "")
    seen = site.visit(GET)
    assert (seen.body, seen.outcome) == (b"got\n", "completed: first done, second done")


def test_failing_callback_is_reported_and_the_next_ones_run(site):
    seen = site.visit(THROWS)
    assert (seen.status, seen.callbacks) == (200, ("first", "second"))
    assert seen.outcome == "failed: mail failed, first done, second done"
    site.deferd.wait_for_cause("mail.*RuntimeException: the mail server is away")


def test_page_that_is_not_there_has_no_deferred_phase(site):
    seen = site.visit(MISSING)
    assert (seen.status, seen.outcome) == (404, "answered")


def test_failure_goes_to_the_containers_logger(site):
    site.app.edit(DEPENDENCIES, "    $container[SessionMiddleware::class]", """
        $container[Psr\\Log\\LoggerInterface::class] = fn () => new class extends
            Psr\\Log\\AbstractLogger {
            public function log($level, string|Stringable $message, array $context = []): void {
                $line = "$level: {$context['exception']->getMessage()}\\n";
                file_put_contents(__DIR__ . '/../logged', $line, FILE_APPEND);
            }
        };
        $container[SessionMiddleware::class]""")
    assert site.visit(THROWS).outcome.startswith("failed: mail failed")
    assert (site.app.directory / "logged").read_text("utf-8") == "error: the mail server is away\n"


def test_error_page_keeps_callbacks_back_where_that_is_asked_for(site):
    site.app.edit(DEPENDENCIES, "new DeferFactory()", "new DeferFactory(skipOnError: true)")
    site.app.edit("app/routes.php", "throw new RuntimeException('this", """
        $request->getAttribute('defer')->defer(fn () => null, 'alert')->always();
        throw new RuntimeException('this""")
    seen = site.visit(ERROR)
    assert (seen.status, seen.callbacks) == (500, ())
    assert seen.outcome == "completed: first skipped, second skipped, alert done"
    assert site.visit(GET).callbacks == ("first", "second")
