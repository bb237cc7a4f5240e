"""A php-fpm of its own: its pools, a temporary directory, no system configuration touched."""

import glob
import os
import pathlib
import re
import shutil
import signal

from . import proc
from .address import Address, local_address
from .process import Process
from .waiting import wait_until

# What php.ini has for applications that know nothing of deferd.
POLYFILLED = {
    "auto_prepend_file": str(pathlib.Path(__file__).resolve().parents[2] / "php" / "polyfill.php"),
    "disable_functions": "fastcgi_finish_request",
}


def find_binary():
    """php-fpm, under the name this system has for it."""
    wanted = os.environ.get("PHP_FPM_BIN")
    if wanted:
        return wanted
    for name in ("php-fpm", *(f"php-fpm8.{minor}" for minor in range(9, -1, -1))):
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if found:
            return found
    raise FileNotFoundError("php-fpm is not installed")


class Fpm(Process):
    """A static pool with `workers` workers.

    It listens on a unix socket, or on `listen`; port 0 there is a free one.
    `ini` are PHP settings, `pool` and `options` further lines of the pool's and the
    global section of its configuration. `php_ini` are settings for php.ini, which hold for
    all pools. `others` are the names of further pools, alike, at `other(name)`.
    """

    name = "php-fpm"

    def __init__(self, workspace, workers=4, listen=None, ini=None, pool=None, options=None,
                 php_ini=None, others=(), name="fpm"):
        super().__init__()
        self._directory = workspace.make_directory(name)
        self.workers_wanted = workers
        self.address = Address.parse(listen or os.path.join(self._directory, "fpm.sock"))
        self._ini = ini or {}
        self._pool = pool or {}
        self._options = options or {}
        self._php_ini = php_ini or {}
        self._others = others
        self._listener = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc_info):
        self.end()

    def start(self):
        if not self.address.path:
            self._listener = self.address.listen()
            self.address = local_address(self._listener)
        configuration = os.path.join(self._directory, "php-fpm.conf")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(self._configuration())
        # pcov, which is installed to test the PHP package, would slow each request.
        argv = [find_binary(), "--nodaemonize", "--fpm-config", configuration,
                "--define", "pcov.enabled=0"]
        if os.geteuid() == 0:
            argv.append("--allow-to-run-as-root")
        before = len(self.lines)
        env, fds = self._inherited()
        self.spawn(argv, {**env, **self._scanned()}, fds)
        self.wait_for_line("ready to handle connections", 10.0, after=before)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        return self

    def _inherited(self):
        """A TCP socket is bound here and handed over: nobody can take the port meanwhile."""
        if self._listener is None:
            return {}, ()
        fd = self._listener.fileno()
        # php-fpm looks an IPv6 address up without its brackets.
        name = f"{self.address.host}:{self.address.port}"
        return {"FPM_SOCKETS": f"{name}={fd}"}, (fd,)

    def _scanned(self):
        """What php.ini has, from one more file behind those of the system's conf.d."""
        if not self._php_ini:
            return {}
        folder = os.path.join(self._directory, "conf.d")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "php.ini"), "w", encoding="utf-8") as file:
            file.writelines(f'{name} = "{value}"\n' for name, value in self._php_ini.items())
        return {"PHP_INI_SCAN_DIR": f":{folder}"}

    def other(self, name):
        """The address of one of the `others`."""
        return Address(path=os.path.join(self._directory, f"{name}.sock"))

    def _configuration(self):
        options = {
            "error_log": "/proc/self/fd/2",
            "log_level": "notice",
            "daemonize": "no",
            **self._options,
        }
        pool = {
            "listen": str(self.address),
            "listen.backlog": 511,
            "pm": "static",
            "pm.max_children": self.workers_wanted,
            "catch_workers_output": "yes",
            "decorate_workers_output": "no",
            "clear_env": "no",
            **self._pool,
        }
        if os.geteuid() == 0:
            pool.setdefault("user", "root")
            pool.setdefault("group", "root")
        ini = {
            "output_buffering": "0",
            "error_log": os.path.join(self._directory, "php.log"),
            "session.save_path": self._directory,
            "upload_tmp_dir": self._directory,
            "sys_temp_dir": self._directory,
            **self._ini,
        }
        lines = ["[global]"]
        lines += [f"{name} = {value}" for name, value in options.items()]
        for section in ("www", *self._others):
            listen = pool["listen"] if section == "www" else str(self.other(section))
            lines += [f"[{section}]"]
            lines += [f"{name} = {value}" for name, value in {**pool, "listen": listen}.items()]
            lines += [f'php_value[{name}] = "{value}"' for name, value in ini.items()]
        return "\n".join(lines) + "\n"

    def stop(self, timeout=20.0):
        """SIGQUIT, and the exit status. What runs is finished if `process_control_timeout` gives
        it the time; with its default, 0, it is killed."""
        self.signal(signal.SIGQUIT)
        return self.wait(timeout)

    def reload(self, timeout=20.0):
        """SIGUSR2: as stop(), and a new start in the same process, which listens all the while."""
        before = len(self.lines)
        self.signal(signal.SIGUSR2)
        self.wait_for_line("ready to handle connections", timeout, after=before)

    def workers(self):
        """The workers' pids."""
        return proc.children(self.pid)

    def kill_worker(self, pid, number=signal.SIGKILL):
        """Ends one worker, which must be one of ours, and waits until it is gone."""
        if pid not in self.workers():
            raise ValueError(f"{pid} is no worker of php-fpm {self.pid}")
        os.kill(pid, number)
        wait_until(lambda: pid not in self.workers(), what=f"the end of worker {pid}")

    def tell_to_end(self, pid):
        """SIGQUIT for one worker that waits for a request: it ends when it would wait again."""
        if pid not in self.workers():
            raise ValueError(f"{pid} is no worker of php-fpm {self.pid}")
        wait_until(lambda: proc.sleeping(pid), what=f"worker {pid} asleep")
        os.kill(pid, signal.SIGQUIT)

    def wait_for_workers(self, count=None, timeout=5.0):
        """Waits until the pool has its number of workers (again)."""
        count = self.workers_wanted if count is None else count
        wait_until(lambda: len(self.workers()) == count, timeout, f"{count} workers")

    def end(self):
        super().end()
        # SIGKILL leaves the socket; a next start with the same address wants it away.
        for path in glob.glob(glob.escape(self.address.path)) if self.address.path else []:
            os.unlink(path)

    @staticmethod
    def version():
        """8.2.30, for example."""
        with os.popen(f"{find_binary()} -v") as output:
            return re.search(r"PHP (\S+)", output.read()).group(1)
