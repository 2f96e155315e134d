"""Take screenshots of MLflow's pages with the runs of this project, in a headless Chromium.

python -m benchmarks.screenshots [FOLDER] [--run NAME]

Writes experiment.png, runs.png, charts.png, run.png and run_charts.png to FOLDER, and prints what
the pages request from other machines and the errors in their console. Run it in a project with
runs. It needs the extra `ecosystem`, and Debian's `chromium` or another one in PATH.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1440, 900
PATIENCE = 120.0  # seconds for a server to start, and for a page to show what is waited for
# MLflow's page asks who is logged in; a server without accounts answers 404 (3.17.2).
EXPECTED = "/mlflow/users/current"


@dataclass
class Tab:
    """A tab of the browser, and the tabs that its links open.

    Attributes:
        page: Playwright's page.
        foreign: requests to other machines.
        errors: errors in the console, and of scripts.
    """

    page: Any
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, address: str, *, shows: str) -> None:
        """Open an address from scratch, and wait for a text on its page."""
        self.page.goto("about:blank")
        self.page.goto(address)
        self.wait_for(shows)

    def wait_for(self, text: str) -> None:
        """Wait for a text, and until the page is drawn."""
        self.page.get_by_text(text).first.wait_for(state="visible")
        with suppress(Exception):  # of any kind: a page that polls is never idle
            self.page.wait_for_load_state("networkidle", timeout=5000)

    def follow(self, link: str) -> str:
        """Click a link that opens a new tab. Returns its address."""
        with self.page.context.expect_page() as opened:
            self.page.get_by_role("link", name=link, exact=True).first.click()
        address = str(opened.value.url)
        opened.value.close()
        return address

    def close_extras(self) -> None:
        """Close MLflow's assistant and its introduction, which cover the page."""
        for name in ("Got it", "Close"):
            for button in self.page.get_by_role("button", name=name, exact=True).all():
                with suppress(Exception):  # of any kind: it has closed
                    button.click(timeout=1000)

    def picture(self, path: Path) -> None:
        """Write a screenshot."""
        self.page.screenshot(path=path)

    def _request(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("blob", "data", "about") and address.hostname != "127.0.0.1":
            self.foreign.append(request.url)

    def _message(self, message: Any) -> None:
        if message.type == "error" and EXPECTED not in message.location.get("url", ""):
            self.errors.append(message.text)


@contextmanager
def browser(**context: Any) -> Iterator[Tab]:
    """A tab of a headless Chromium.

    Args:
        context: of Playwright's `new_context`, such as `http_credentials`.
    """
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise SystemExit("no Chromium: install Debian's `chromium`")
    with sync_playwright() as playwright:
        # Chromium's sandbox does not work for root, as in containers.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=program, args=sandbox)
        opened = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT}, **context)
        opened.set_default_timeout(PATIENCE * 1000)
        tab = Tab(opened.new_page())
        opened.on("request", tab._request)
        opened.on("console", tab._message)
        opened.on("weberror", lambda error: tab.errors.append(str(error.error)))
        yield tab
        chromium.close()


@contextmanager
def ui(folder: Path, port: int, **environment: str) -> Iterator[str]:
    """The address that `tinyllm ui` prints, while its server runs."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tinyllm", "ui", "--port", str(port)],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        lines = (line.partition("The runs: ")[2].strip() for line in server.stdout)
        address = next(filter(None, lines), "")
        wait_for_server(address, server)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for_server(address: str, server: "subprocess.Popen[Any]") -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), urllib.request.urlopen(f"{address.partition('#')[0]}health"):
            return
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"MLflow does not start at {address}")
        time.sleep(0.3)


def take(tab: Tab, runs: str, folder: Path, run: str) -> None:
    """Write screenshots of the pages of an experiment.

    Args:
        runs: address of the experiment's runs.
        run: name of a run that is on the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    overview = f"{runs.partition('/runs')[0]}?workflowType=genai"
    tab.open(overview, shows="Lower")
    tab.close_extras()
    tab.picture(folder / "experiment.png")
    tab.open(f"{runs}&compareRunsMode=CHART", shows="best/bits_per_byte")
    tab.close_extras()
    tab.picture(folder / "charts.png")
    tab.open(runs, shows=run)
    tab.close_extras()
    tab.picture(folder / "runs.png")
    tab.page.get_by_text(run).first.click()
    tab.wait_for("About this run")
    tab.picture(folder / "run.png")
    tab.page.get_by_text("Model metrics").first.click()
    tab.wait_for("bits_per_byte")
    tab.picture(folder / "run_charts.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("screenshots"))
    parser.add_argument("--run", help="name of the run to show; default: the latest")
    parser.add_argument("--port", type=int, default=5099)
    options = parser.parse_args()
    from tinyllm.experiments.runs import project_runs

    tracked = [run.title for run in project_runs() if run.title]
    if not tracked:
        raise SystemExit("MLflow has no run of this project: `dvc repro` makes one")
    with ui(Path(), options.port) as address, browser() as tab:
        take(tab, address, options.folder, options.run or tracked[0])
        print(f"{options.folder}: {', '.join(sorted(p.name for p in options.folder.iterdir()))}")
        print(f"requests to other machines: {tab.foreign or 'none'}")
        print(f"errors in the console: {tab.errors or 'none'}")


if __name__ == "__main__":
    main()
