"""PHP applications as their frameworks' users lay them out, installed with Composer and served.

An application is a folder with a `public` one in it: php/examples/NAME, or tests/apps/NAME for
one that knows nothing of deferd. Beside it may stand tests/apps/NAME.composer.json, what its
composer.json needs on top for the tests, which may be a package in tests/apps/packages. What
Composer installs is kept in build/apps, by the content of the composer.json files it came from.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

from .address import Address
from .nginx import Nginx

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "php"
EXAMPLES = PACKAGE / "examples"
APPS = REPOSITORY / "tests" / "apps"
PACKAGES = APPS / "packages"
KEPT = REPOSITORY / "build" / "apps"

# What `composer create-project` runs once the packages are there.
CREATED = ("post-root-package-install", "post-autoload-dump", "post-create-project-cmd")

SERVER = """\
    server {{
        listen 80;
        root {root};
        location / {{
            include {params};
            fastcgi_param SCRIPT_FILENAME {root}/index.php;
            fastcgi_param SCRIPT_NAME /index.php;
{location}            fastcgi_pass {upstream};
        }}
    }}
"""

PARAMS = """\
fastcgi_param QUERY_STRING $query_string;
fastcgi_param REQUEST_METHOD $request_method;
fastcgi_param CONTENT_TYPE $content_type;
fastcgi_param CONTENT_LENGTH $content_length;
fastcgi_param REQUEST_URI $request_uri;
fastcgi_param DOCUMENT_URI $document_uri;
fastcgi_param DOCUMENT_ROOT $document_root;
fastcgi_param SERVER_PROTOCOL $server_protocol;
fastcgi_param REQUEST_SCHEME $scheme;
fastcgi_param GATEWAY_INTERFACE CGI/1.1;
fastcgi_param REMOTE_ADDR 127.0.0.1;
fastcgi_param SERVER_NAME localhost;
fastcgi_param SERVER_PORT 80;
"""


def _merged(base, extra):
    """JSON objects merged key by key; of anything else, the extra one."""
    if not isinstance(base, dict) or not isinstance(extra, dict):
        return extra
    keys = [*base, *(key for key in extra if key not in base)]
    return {key: _merged(base[key], extra[key]) if key in base and key in extra
            else (extra if key in extra else base)[key] for key in keys}


def _read_json(path):
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


@contextlib.contextmanager
def _lock(path):
    """For two test runs that want the same at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _composer(directory, *arguments):
    argv = ["composer", *arguments, "--no-interaction"]
    run = subprocess.run(argv, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
                         env={**os.environ, "COMPOSER_ALLOW_SUPERUSER": "1"})
    if run.returncode != 0:
        raise AssertionError(f"{' '.join(argv)} failed:\n{run.stdout}")


def _install(wanted):
    """A folder with a `vendor` as this composer.json wants it. Fails if a package cannot be had."""
    text = json.dumps(wanted, indent=4)
    digest = hashlib.sha256(text.encode())
    for package in [PACKAGE, *sorted(PACKAGES.iterdir())]:
        digest.update((package / "composer.json").read_bytes())
    done = KEPT / digest.hexdigest()[:16]
    with _lock(KEPT / f"{done.name}.lock"):
        if not done.exists():
            making = KEPT / f"{done.name}.new"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            (making / "composer.json").write_text(text, "utf-8")
            _composer(making, "update", "--no-progress", "--no-scripts", "--prefer-dist")
            making.rename(done)
    return done


class App:
    """An application, copied into a workspace with its packages, which so may write there.

    `name` is a folder in php/examples or tests/apps. Its own composer.json, merged with
    tests/apps/NAME.composer.json, says what it needs; deferd/defer comes from this repository.
    `extra` is merged as well. One that needs nothing of Composer stays where it is.
    """

    def __init__(self, workspace, name, extra=None):
        source = next(place / name for place in (EXAMPLES, APPS) if (place / name).is_dir())
        self.name = name
        self.directory = source
        wanted = _merged(_read_json(source / "composer.json"),
                         _read_json(APPS / f"{name}.composer.json"))
        wanted = _merged(wanted, extra or {})
        if wanted:
            self.directory = pathlib.Path(workspace.path(f"app-{name}"))
            shutil.copytree(source, self.directory, ignore=shutil.ignore_patterns("vendor"))
            wanted["repositories"] = [{"type": "path", "url": str(place)}
                                      for place in (PACKAGE, PACKAGES / "*")]
            # Composer writes paths below the folder it runs in as relative ones: it can be moved.
            shutil.copytree(_install(wanted) / "vendor", self.directory / "vendor", symlinks=True)
        for script in CREATED:
            if script in wanted.get("scripts", {}):
                _composer(self.directory, "run-script", script)

    @property
    def public(self):
        return str(self.directory / "public")

    def edit(self, file, old, new):
        """Changes a copied application, before it is first asked."""
        path = self.directory / file
        text = path.read_text("utf-8")
        if REPOSITORY in path.parents or text.count(old) != 1:
            raise ValueError(f"{path} cannot be edited: is {old!r} in it, once?")
        path.write_text(text.replace(old, new), "utf-8")

    def version(self, package):
        """The version that Composer installed."""
        installed = _read_json(self.directory / "vendor" / "composer" / "installed.json")
        return next(each["version"] for each in installed["packages"] if each["name"] == package)

    def serve(self, workspace, upstream, location="", name=None, **options):
        """nginx in front, every request to public/index.php; `location` takes whole lines."""
        params = workspace.write("fastcgi_params", PARAMS)
        server = SERVER.format(root=self.public, params=params, location=location,
                               upstream=Address.parse(upstream).for_nginx())
        return Nginx(workspace, upstream, self.public, servers=server,
                     name=name or f"nginx-{self.name}", **options)
