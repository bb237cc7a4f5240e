"""The Slim 3 example: what is its own. What all have in common: test_frameworks.py."""

import pytest
from frameworks.catalog import FRAMEWORKS, Kind
from frameworks.site import Site
from harness import Nginx
from harness.apps import EXAMPLES

pytestmark = pytest.mark.time_limit(300)

SLIM3 = next(each for each in FRAMEWORKS if each.app == "slim3")
GET = Kind("GET", "GET", "/get")
ERROR = Kind("error page", "GET", "/error")
THROWS = Kind("failing", "GET", "/throws")
INDEX = "public/index.php"
PROVIDER = "$container->register(new DeferProvider());"


@pytest.fixture(name="site")
def fixture_site(workspace):
    return Site(workspace, SLIM3)


def test_callbacks_run_at_the_end_of_the_request_when_run_is_forgotten(site):
    site.app.edit(INDEX, "$container['defer']->run();", "")
    seen = site.visit(GET)
    assert (seen.body, seen.outcome) == (b"got\n", "completed: first done, second done")


def test_failing_callback_is_reported_and_the_next_ones_run(site):
    seen = site.visit(THROWS)
    assert (seen.status, seen.callbacks) == (200, ("first", "second"))
    assert seen.outcome == "failed: mail failed, first done, second done"
    site.deferd.wait_for_cause("mail.*RuntimeException: the mail server is away")


def test_failure_goes_to_the_containers_logger(site):
    site.app.edit(INDEX, PROVIDER, PROVIDER + """
        require '/usr/share/php/Psr/Log/autoload.php';
        $container['logger'] = new class extends Psr\\Log\\AbstractLogger {
            public function log($level, $message, array $context = []) {
                $line = "$level: {$context['exception']->getMessage()}\\n";
                file_put_contents(__DIR__ . '/../logged', $line, FILE_APPEND);
            }
        };""")
    assert site.visit(THROWS).outcome.startswith("failed: mail failed")
    assert (site.app.directory / "logged").read_text("utf-8") == "error: the mail server is away\n"


def test_error_page_keeps_callbacks_back_where_that_is_asked_for(site):
    site.app.edit(INDEX, "new DeferProvider()", "new DeferProvider(skipOnError: true)")
    site.app.edit("app/routes.php", "throw new RuntimeException('this", """
        $this->defer->defer(fn () => null, 'alert')->always();
        throw new RuntimeException('this""")
    seen = site.visit(ERROR)
    assert (seen.status, seen.callbacks) == (500, ())
    assert seen.outcome == "completed: first skipped, second skipped, alert done"
    assert site.visit(GET).callbacks == ("first", "second")


def test_example_runs_in_a_checkout_with_debians_slim(workspace, start_deferd, shared_fpm):
    """As `make demo` has it: nothing was installed with Composer."""
    public = EXAMPLES / "slim3" / "public"
    deferd = start_deferd(shared_fpm)
    location = (f"            fastcgi_param SCRIPT_FILENAME {public}/index.php;\n"
                "            fastcgi_param SCRIPT_NAME /index.php;\n")
    nginx = workspace.enter(Nginx(workspace, deferd.address, str(public), location=location))
    assert nginx.get("/get?ms=0").text == "got\n"
    assert nginx.get("/demo/throws").status == 200
    assert deferd.wait_for_request("/get?ms=0").outcome == "completed"
    assert deferd.wait_for_request("/demo/throws").outcome == "failed"
