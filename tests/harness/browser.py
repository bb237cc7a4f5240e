"""A headless Chromium, driven over a pipe by the DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import threading
import time

from .waiting import DeadlinePassed


def find_binary():
    """Chromium, under the name this system has for it."""
    wanted = os.environ.get("CHROMIUM_BIN")
    if wanted:
        return wanted
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    raise FileNotFoundError("chromium is not installed (make browser installs it)")


class Browser:
    """One browser with one page, which collects what the page asks for and complains about."""

    def __init__(self, workspace, width=1200, height=900, dark=False):
        self._directory = workspace.make_directory(f"browser-{width}-{int(dark)}")
        self._size = (width, height)
        self._dark = dark
        self._child = None
        self._to = None
        self._from = None
        self._session = None
        self._last = 0
        self._answers = {}
        self._changed = threading.Condition()
        self._eof = False
        self.urls = []
        """Every URL that was asked for, in order."""
        self.complaints = []
        """Exceptions, console errors, log entries and requests that failed or were blocked."""

    def __enter__(self):
        child_in, self._to = os.pipe()
        self._from, child_out = os.pipe()
        argv = [
            find_binary(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-extensions", "--disable-sync", "--hide-scrollbars",
            f"--user-data-dir={self._directory}", f"--window-size={self._size[0]},{self._size[1]}",
            "--remote-debugging-pipe", "about:blank",
        ]
        # It reads commands from descriptor 3 and writes answers to 4. (sh knows one digit only.)
        script = f'exec 3</dev/fd/{child_in} 4>/dev/fd/{child_out} "$@"'
        self._child = subprocess.Popen(
            ["sh", "-c", script, "sh", *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=(child_in, child_out), start_new_session=True,
            env={**os.environ, "HOME": self._directory})
        os.close(child_in)
        os.close(child_out)
        threading.Thread(target=self._read, daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target,
                                  flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=self._size[0], height=self._size[1],
                  deviceScaleFactor=1, mobile=self._size[0] < 600)
        if self._dark:
            self.call("Emulation.setEmulatedMedia",
                      features=[{"name": "prefers-color-scheme", "value": "dark"}])
        return self

    def __exit__(self, *exc_info):
        os.close(self._to)
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _read(self):
        rest = b""
        while data := os.read(self._from, 65536):
            *messages, rest = (rest + data).split(b"\0")
            with self._changed:
                for message in messages:
                    self._take(json.loads(message))
                self._changed.notify_all()
        os.close(self._from)
        with self._changed:
            self._eof = True
            self._changed.notify_all()

    def _take(self, message):
        if "id" in message:
            self._answers[message["id"]] = message
            return
        method, params = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            self.urls.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.complaints.append(params["args"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"])
        elif method == "Network.loadingFailed" and not params.get("canceled"):
            self.complaints.append(params)

    def call(self, method, timeout=15.0, **params):
        """A command of the protocol, and its result."""
        self._last += 1
        number = self._last
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data):]
        deadline = time.monotonic() + timeout
        with self._changed:
            while number not in self._answers:
                left = deadline - time.monotonic()
                if self._eof or left <= 0:
                    raise DeadlinePassed(f"chromium did not answer {method}")
                self._changed.wait(left)
            answer = self._answers.pop(number)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, url):
        self.call("Page.navigate", url=url)

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def text(self, selector):
        """What is to be read at the first element of this kind; None if there is none."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? null")

    def screenshot(self, path, whole=True):
        result = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(result["data"]))
