"""Addresses as deferd, php-fpm and nginx write them."""

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """Where a stream socket listens: a path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text):
        """Understands PATH, unix:PATH, HOST:PORT and [V6]:PORT."""
        if isinstance(text, cls):
            return text
        text = str(text)
        if text.startswith("unix:"):
            return cls(path=text[len("unix:"):])
        if text.startswith("/"):
            return cls(path=text)
        host, _, port = text.rpartition(":")
        return cls(host=host.strip("[]"), port=int(port))

    @property
    def family(self):
        if self.path:
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def sockaddr(self):
        return self.path or (self.host, self.port)

    def __str__(self):
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def for_nginx(self):
        """The form of fastcgi_pass, server and listen."""
        return f"unix:{self.path}" if self.path else str(self)

    def connect(self, timeout=10.0):
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(self.sockaddr)
            if not self.path:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return sock

    def listen(self, backlog=511):
        """A listening socket; with port 0, ask local_address() where it is."""
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            if not self.path:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(self.sockaddr)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return sock


def local_address(sock):
    """The Address a socket is bound to."""
    if sock.family == socket.AF_UNIX:
        return Address(path=sock.getsockname())
    host, port = sock.getsockname()[:2]
    return Address(host=host, port=port)
