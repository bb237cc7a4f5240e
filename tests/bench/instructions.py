"""How many instructions deferd itself spends on a request, counted by callgrind.

    /usr/bin/python3 tests/bench/instructions.py

Real php-fpm behind it, one client, one request after the other. Each kind of request is counted in
two runs of different length: the difference leaves out what is there at start and end. The kernel's
instructions are not counted. The profile of the longer run stays in build/bench, for
callgrind_annotate.
"""

import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import Deferd, FcgiClient, Fpm, Workspace  # noqa: E402
from sites import PHP  # noqa: E402

OUT = pathlib.Path(__file__).resolve().parents[2] / "build" / "bench"
SHORT, LONG = 2000, 12000

# What nginx's fastcgi_params and a browser's headers come to.
PARAMS = {
    "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "50000", "SERVER_ADDR": "127.0.0.1",
    "SERVER_PORT": "80", "SERVER_NAME": "example.org", "REQUEST_SCHEME": "http",
    "DOCUMENT_URI": "/hello.php", "DOCUMENT_ROOT": str(PHP), "REDIRECT_STATUS": "200",
    "CONTENT_TYPE": "", "CONTENT_LENGTH": "", "HTTP_HOST": "example.org",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "HTTP_ACCEPT_LANGUAGE": "en-GB,en;q=0.5", "HTTP_ACCEPT_ENCODING": "gzip, deflate, br",
    "HTTP_COOKIE": "session=0123456789abcdef0123456789abcdef",
}
FORM = b"name=value&" * 20

KINDS = {
    "GET": {"method": "GET"},
    "GET, with its line in the log": {"method": "GET", "log_level": "notice"},
    "POST": {"method": "POST"},
    "POST with 220 bytes of body": {"method": "POST", "body": FORM},
}


class CountedDeferd(Deferd):
    """deferd under callgrind."""

    def __init__(self, *args, profile, **kwargs):
        super().__init__(*args, **kwargs)
        self._profile = profile

    def argv(self):
        return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self._profile}",
                *super().argv()]

    def instructions(self):
        """In all, once it has ended."""
        with open(self._profile, encoding="utf-8") as file:
            return int(re.search(r"^(?:totals|summary): (\d+)", file.read(), re.MULTILINE)[1])


def count(requests, profile, method, body=b"", log_level="warning"):
    """Instructions of a deferd that serves so many requests on one connection."""
    params = {**PARAMS, **({"CONTENT_LENGTH": str(len(body))} if body else {})}
    with Workspace() as workspace:
        fpm = workspace.enter(Fpm(workspace, workers=2, pool={"catch_workers_output": "no"}))
        deferd = workspace.enter(CountedDeferd(
            os.path.join(workspace.directory, "deferd.sock"), fpm.address, max_workers=2,
            log_level=log_level, profile=profile))
        with FcgiClient(deferd.address) as client:
            for _ in range(requests):
                response = client.request(method, "/hello.php", body, params=params,
                                          script=str(PHP / "hello.php"), keep=True)
                if response.body != b"hello":
                    raise AssertionError(response)
        deferd.stop()
        return deferd.instructions()


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    print("instructions a request, on a kept connection of the web server:")
    for number, (name, request) in enumerate(KINDS.items()):
        profile = OUT / f"callgrind.{number}"
        short = count(SHORT, profile, **request)
        long = count(LONG, profile, **request)
        print(f"  {name:<30} {(long - short) / (LONG - SHORT):8.0f}", flush=True)


if __name__ == "__main__":
    main()
