"""Opens MLflow's page in a browser as soon as its server answers.

python -m tinyllm.tracking.mlflow.browser ADDRESS
"""

import os
import subprocess
import sys
import time
import urllib.request
import webbrowser
from contextlib import suppress

PATIENCE = 120.0  # seconds that a server may take to start
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
REMOTE = "SSH_CONNECTION"  # a browser would open at the other end, or slowly over X11


def open_when_ready(address: str) -> None:
    """Start a process that opens an address once its server answers, if there is a browser.

    It ends with this process's group, or after two minutes.
    """
    if sys.stdout.isatty() and has_browser():
        subprocess.Popen(
            [sys.executable, "-m", "tinyllm.tracking.mlflow.browser", address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def has_browser() -> bool:
    """Whether a graphical browser is likely to be there; `BROWSER` names one."""
    if os.environ.get("BROWSER"):
        return True
    if os.environ.get(REMOTE):
        return False
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, DISPLAYS))


def main(address: str) -> None:
    server, deadline = os.getppid(), time.monotonic() + PATIENCE
    while time.monotonic() < deadline and os.getppid() == server:
        with suppress(OSError), urllib.request.urlopen(f"{address.partition('#')[0]}health"):
            webbrowser.open(address)
            return
        time.sleep(0.3)


if __name__ == "__main__":
    main(sys.argv[1])
