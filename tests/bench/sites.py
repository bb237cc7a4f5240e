"""nginx, deferd or not, and php-fpm in a row, as one side of a comparison has them."""

import contextlib
import os
import pathlib
from dataclasses import dataclass

from harness import Deferd, Fpm, Nginx, proc

PHP = pathlib.Path(__file__).with_name("php")

# As Debian's php.ini and pool have them, where the harness has something else for its tests.
INI = {"output_buffering": "4096", "post_max_size": "64M"}
POOL = {"catch_workers_output": "no"}

LOCATION = "            fastcgi_param DEFERD_CLASS $arg_class if_not_empty;\n"


@dataclass(frozen=True)
class Way:
    """How requests get from nginx to php-fpm."""

    deferd: tuple = None
    """Options of deferd; None: there is no deferd."""
    keepalive: int = 0
    """Connections that nginx keeps to whatever is behind it."""
    workers: int = 16
    backlog: int = 511
    log_level: str = "warning"
    """Of deferd: nginx and php-fpm log no requests here either."""
    one_core: bool = False


class Site:
    """A Way that runs. Nothing of it is shared with another: a connection that one keeps would
    hold another's worker."""

    def __init__(self, workspace, name, way):
        self._workspace = workspace
        self._name = name
        self.way = way
        self.fpm = self.deferd = self.nginx = None

    def __enter__(self):
        with on_cores(one=self.way.one_core):
            self._start()
        return self

    def __exit__(self, *exc_info):
        """The workspace ends what it was given."""

    def _start(self):
        way, enter = self.way, self._workspace.enter
        self.fpm = enter(Fpm(
            self._workspace, workers=way.workers, name=f"{self._name}-fpm", ini=INI,
            pool={**POOL, "listen.backlog": way.backlog}))
        behind = self.fpm
        if way.deferd is not None:
            listen = os.path.join(self._workspace.make_directory(self._name), "deferd.sock")
            behind = self.deferd = enter(Deferd(
                listen, self.fpm.address, max_workers=way.workers, log_level=way.log_level,
                arguments=way.deferd))
        self.nginx = enter(Nginx(self._workspace, behind.address, str(PHP), location=LOCATION,
                                 keepalive=way.keepalive, log_level="crit",
                                 name=f"{self._name}-nginx"))

    def _pids(self):
        programs = {"nginx": self.nginx, "deferd": self.deferd, "fpm": self.fpm}
        return {name: proc.session_members(program.pid)
                for name, program in programs.items() if program is not None}

    def cpu_seconds(self):
        """User and system time so far, by program."""
        return {name: sum(map(proc.cpu_seconds, pids)) for name, pids in self._pids().items()}

    def pss_mb(self):
        """Memory of all processes, what they share counted once, by program."""
        return {name: sum(map(proc.pss_kb, pids)) * 1024 / 1e6
                for name, pids in self._pids().items()}


@contextlib.contextmanager
def on_cores(one):
    """Has this process, and what it starts, stay on one core within the block, if `one`."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)} if one else cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
