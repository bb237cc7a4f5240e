"""Everything a test, a demo or a benchmark needs around a running deferd.

A FastCGI codec and the two ends of a FastCGI connection (a client in nginx's
place, a peer in php-fpm's), and the real programs: deferd, php-fpm, nginx.
Nothing in here knows pytest. Everything started here lives in a Workspace and
is gone when its `with` block ends, also when the block fails.
"""

from .address import Address
from .apps import App
from .background import Background
from .client import FcgiClient, Response
from .control import CommandFailed, Control, control, deferctl
from .daemon import Deferd
from .fifo import Fifo
from .fpm import POLYFILLED, Fpm
from .gate import Gate
from .master import Master
from .nginx import Nginx
from .peer import FcgiPeer
from .waiting import DeadlinePassed, wait_until
from .workspace import Workspace

__all__ = [
    "POLYFILLED",
    "Address",
    "App",
    "Background",
    "CommandFailed",
    "Control",
    "DeadlinePassed",
    "Deferd",
    "FcgiClient",
    "FcgiPeer",
    "Fifo",
    "Fpm",
    "Gate",
    "Master",
    "Nginx",
    "Response",
    "Workspace",
    "control",
    "deferctl",
    "wait_until",
]
