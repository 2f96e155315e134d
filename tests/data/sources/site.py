"""A local web server with programmable faults."""

import http.server
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Behaviour = Callable[["Request"], None]
TAG = '"the first"'


class Request(http.server.BaseHTTPRequestHandler):
    """One request; the site decides how to answer it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        site = self.server.site
        site.seen.append((self.path, dict(self.headers)))
        self.close_connection = True
        # A client may close the connection during a response.
        with suppress(ConnectionError):
            site.behaviours[self.path](self)

    def head(self, status: int, **headers: object) -> None:
        """Send status and headers; `Content_Length=3` becomes `Content-Length: 3`."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()

    def reset(self) -> None:
        """Reset the connection (RST)."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def asked_from(self) -> int | None:
        """Return the first byte of the requested range, if there is one."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(asked[1]) if asked else None

    def serve(self, data: bytes, tag: str = TAG) -> None:
        """Answer correctly: the whole file, or the rest if the client has this version's start."""
        start = self.asked_from()
        if start is None or self.headers.get("If-Range") != tag:
            self.head(200, Content_Length=len(data), ETag=tag)
            self.send(data)
        elif start >= len(data):
            self.head(416, Content_Range=f"bytes */{len(data)}", Content_Length=0)
        else:
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.head(206, Content_Length=len(data) - start, Content_Range=span, ETag=tag)
            self.send(data[start:])

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


class Site:
    """A web site: the behaviours of each path, and the requests so far with their headers."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.behaviours: dict[str, Behaviour] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []

    def at(self, path: str, *behaviours: Behaviour) -> str:
        """Serve a path: each request gets the next behaviour, then always the last one.

        Returns:
            The address.
        """
        left = list(behaviours)

        def behave(request: Request) -> None:
            (left.pop(0) if len(left) > 1 else left[0])(request)

        self.behaviours[path] = behave
        return self.address + path

    def file(self, path: str, data: bytes) -> str:
        """Serve a file correctly. Returns its address."""
        return self.at(path, lambda request: request.serve(data))


class Server(http.server.ThreadingHTTPServer):
    """A server that answers each request in a daemon thread."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.site = Site(f"http://127.0.0.1:{self.server_port}")


@contextmanager
def running() -> Iterator[Site]:
    """Run a site as long as the context lasts."""
    server = Server()
    # By default, the server checks for its shutdown every half second.
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.site
    finally:
        server.shutdown()
        server.server_close()
