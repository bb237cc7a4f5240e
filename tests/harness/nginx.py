"""An nginx of its own in front of a FastCGI address, and HTTP requests to it."""

import http.client
import os
import shutil
import socket
from dataclasses import dataclass

from .address import Address, local_address
from .process import Process

CONFIGURATION = """\
{user}daemon off;
worker_processes {worker_processes};
pid {directory}/nginx.pid;
error_log stderr {log_level};
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    fastcgi_temp_path {directory}/fastcgi;
    proxy_temp_path {directory}/proxy;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    client_max_body_size 0;
    keepalive_requests 1000000;
    types {{ }}
    default_type application/octet-stream;

{servers}}}
"""

SERVERS = """\
    upstream application {{
        server {upstream};
{keepalive}    }}

    server {{
        listen 80;
        root {root};
        location / {{
            fastcgi_pass application;
{keep_conn}            fastcgi_read_timeout 60s;
            fastcgi_param GATEWAY_INTERFACE CGI/1.1;
            fastcgi_param SERVER_SOFTWARE nginx;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
            fastcgi_param SCRIPT_NAME $fastcgi_script_name;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param DOCUMENT_URI $document_uri;
            fastcgi_param DOCUMENT_ROOT $document_root;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param REQUEST_SCHEME $scheme;
            fastcgi_param REMOTE_ADDR 127.0.0.1;
            fastcgi_param SERVER_NAME $server_name;
{location}        }}
    }}
"""


def find_binary():
    found = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise FileNotFoundError("nginx is not installed")
    return found


@dataclass
class HttpResponse:
    """A whole HTTP response; `cookies` as a client sends them back."""

    status: int
    headers: dict
    body: bytes
    cookies: str = ""

    def header(self, name, default=None):
        return self.headers.get(name.lower(), default)

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")


class UnixHttpConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout=10.0):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = Address(path=self._path).connect(self.timeout)


class Nginx(Process):
    """nginx with `root` as its document root, passing everything to `upstream`.

    It listens on a unix socket and on a free TCP port, which stays reserved
    from the moment it was found: nginx inherits the listening socket.
    `keepalive` is the number of kept upstream connections, 0 for none;
    `location` takes further directives, a string of whole lines. `servers`
    takes the place of all that: upstream and server blocks that `listen 80;`.
    """

    name = "nginx"

    def __init__(self, workspace, upstream, root, keepalive=32, location="", servers=None,
                 worker_processes=1, log_level="warn", name="nginx"):
        super().__init__()
        self._directory = workspace.make_directory(name)
        self.upstream = Address.parse(upstream)
        self.root = root
        self.keepalive = keepalive
        self._location = location
        self._servers = servers
        self._worker_processes = worker_processes
        self._log_level = log_level
        self.unix_path = os.path.join(self._directory, "nginx.sock")
        self.port = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc_info):
        self.end()

    def start(self):
        address = Address(host="127.0.0.1")
        with address.listen() as tcp, Address(path=self.unix_path).listen() as unix:
            self.port = local_address(tcp).port
            path = os.path.join(self._directory, "nginx.conf")
            with open(path, "w", encoding="utf-8") as file:
                file.write(self._configuration())
            fds = (tcp.fileno(), unix.fileno())
            argv = [find_binary(), "-p", self._directory, "-e", "stderr", "-c", path]
            self.spawn(argv, {"NGINX": "".join(f"{fd};" for fd in fds)}, fds)
            # The sockets listen already: the first answer tells that nginx took them over.
            self._wait_ready()
        return self

    def _wait_ready(self):
        connection = UnixHttpConnection(self.unix_path)
        try:
            connection.request("TRACE", "/")
            connection.getresponse().read()
        except OSError as error:
            raise AssertionError(f"nginx does not answer: {error}\n{self.tail()}") from error
        finally:
            connection.close()

    def _configuration(self):
        return CONFIGURATION.format(
            user="user root;\n" if os.geteuid() == 0 else "",
            directory=self._directory,
            worker_processes=self._worker_processes,
            log_level=self._log_level,
            servers=self._listening(self._servers or self._own_servers()),
        )

    def _own_servers(self):
        keep = self.keepalive > 0
        return SERVERS.format(
            upstream=self.upstream.for_nginx(),
            keepalive=f"        keepalive {self.keepalive};\n" if keep else "",
            keep_conn="            fastcgi_keep_conn on;\n" if keep else "",
            root=self.root,
            location=self._location,
        )

    def _listening(self, servers):
        listen = f"listen unix:{self.unix_path}; listen 127.0.0.1:{self.port};"
        return servers.replace("listen 80;", listen)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout=10.0):
        """An HTTP connection, as http.client has it, kept as long as the caller likes."""
        return UnixHttpConnection(self.unix_path, timeout)

    def socket(self, timeout=10.0):
        """A connected socket, for raw HTTP."""
        return Address(path=self.unix_path).connect(timeout)

    def request(self, method, uri, body=None, headers=None, timeout=10.0, connection=None):
        """A whole exchange, on a connection of its own unless the caller brings (and keeps) one."""
        used = connection or self.connect(timeout)
        try:
            used.request(method, uri, body, headers or {})
            answer = used.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            cookies = answer.headers.get_all("Set-Cookie", [])
            return HttpResponse(answer.status, fields, answer.read(),
                                "; ".join(cookie.partition(";")[0] for cookie in cookies))
        finally:
            if used is not connection:
                used.close()

    def get(self, uri, **kwargs):
        return self.request("GET", uri, **kwargs)

    def post(self, uri, body, **kwargs):
        return self.request("POST", uri, body, **kwargs)

    def head(self, uri, **kwargs):
        return self.request("HEAD", uri, **kwargs)


def close_quietly(sock):
    """Closes a socket in the middle of a request, as a client that leaves."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
