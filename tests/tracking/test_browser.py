"""The page of the runs opens in the user's browser once its server answers."""

import os
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.tracking.helpers import PYTHON, free_port
from tinyllm.tracking.mlflow.browser import has_browser


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_it_waits_for_the_server(tmp_path: Path) -> None:
    opened, program, port = tmp_path / "opened", tmp_path / "browser", free_port()
    program.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    program.chmod(0o755)
    address = f"http://127.0.0.1:{port}/#/experiments/7/runs?workflowType=machine_learning"
    browser = subprocess.Popen(
        [PYTHON, "-m", "tinyllm.tracking.mlflow.browser", address],
        env={**os.environ, "PYTHONPATH": str(ROOT), "BROWSER": f"{program} %s"},
    )
    time.sleep(0.5)
    assert browser.poll() is None and not opened.exists()
    server = HTTPServer(("127.0.0.1", port), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert browser.wait(60) == 0
    finally:
        server.shutdown()
        server.server_close()
    assert opened.read_text() == f"{address}\n"


@pytest.mark.parametrize(
    ("environment", "there"),
    [
        ({}, False),  # a text browser would take over the terminal
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "a 1 b 22"}, False),
        ({"BROWSER": "firefox", "SSH_CONNECTION": "a 1 b 22"}, True),
    ],
)
def test_a_graphical_browser_is_needed(
    environment: dict[str, str], there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert has_browser() is there
