"""A proxy in front of MLflow's server that refuses some requests, as corporate proxies do."""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RESET = 0  # instead of a status: closes the connection while the request is being sent
PAGE = b"<html><head><title>No</title></head><body><h1>No</h1>nginx</body></html>"


@dataclass(frozen=True)
class Rule:
    """Refuses requests whose path and body contain these."""

    answer: int
    path: str
    body: bytes = b""


@dataclass
class Proxy:
    """The state of a proxy: its rules, and the requests that it refused."""

    url: str
    rules: list[Rule] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # paths

    def answer_to(self, path: str, body: bytes) -> int | None:
        for rule in self.rules:
            if re.search(rule.path, path) and rule.body in body:
                self.refused.append(path)
                return rule.answer
        return None


@contextmanager
def proxy_before(port: int) -> Iterator[Proxy]:
    """Run a proxy in front of a server on this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = proxy.answer_to(self.path, body)
            if answer == RESET:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
            elif answer is not None:
                self.answer(answer, PAGE, "text/html")
            else:
                server = HTTPConnection("127.0.0.1", port, timeout=60)
                server.request(self.command, self.path, body, dict(self.headers))
                reply = server.getresponse()
                kind = reply.headers.get("Content-Type", "")
                self.answer(reply.status, reply.read(), kind)
                server.close()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        def answer(self, status: int, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{listener.server_port}")
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
