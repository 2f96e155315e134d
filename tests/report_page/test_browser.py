"""The page in a real Chromium, from a file: no errors, no requests, values, zoom, themes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report_page.helpers import content
from tests.report_page.test_page import HOSTILE
from tinyllm.report_page import page as report_page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.ecosystem,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]
PHONE = {"width": 375, "height": 800}
# Elements with text whose colour has a contrast below 4.5 to 1 to the background behind it (AA).
LOW_CONTRAST = """
() => {
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    probe.clearRect(0, 0, 1, 1); probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data];
  };
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c[3] === 255) return c;
    }
  };
  return [...document.querySelectorAll("body *")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .filter((e) => !["SCRIPT", "STYLE"].includes(e.tagName) && e.checkVisibility())
    .map((e) => {
      const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort();
      return [e.tagName, e.textContent.slice(0, 30), (b + 0.05) / (a + 0.05)];
    })
    .filter(([, , ratio]) => ratio < 4.5);
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with hostile samples."""
    folder = tmp_path_factory.mktemp("page")
    samples = [(text, text) for text in HOSTILE]
    report_page.write(folder / "index.html", content(folder, steps=2000, samples=samples))
    return folder / "index.html"


class Opened:
    """A page in the browser, and everything that it reported or requested."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def background(self) -> str:
        return str(self.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    def drag(self, selector: str, begin: float, end: float) -> None:
        """Drag over an element, from one fraction of its width to another."""
        area = self.page.locator(selector)
        area.scroll_into_view_if_needed()
        box = area.bounding_box()
        height = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + begin * box["width"], height)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + end * box["width"], height, steps=4)
        self.page.mouse.up()

    def ticks(self, selector: str) -> list[str]:
        return list(self.page.locator(selector).all_inner_texts())


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Opened]:
    page = Opened(browser, file.as_uri(), color_scheme="light")
    yield page
    assert page.faults == []
    assert page.requests == [file.as_uri()]
    page.context.close()


def test_hovering_shows_the_values(opened: Opened) -> None:
    values = opened.page.locator("#loss .values")
    assert not values.is_visible()
    opened.page.locator("#loss .area").hover()
    text = values.inner_text()
    assert text.startswith("step ") and "batches, smoothed: 2." in text
    opened.page.locator("h1").hover()
    assert not values.is_visible()
    opened.page.locator("#calibration .area").focus()
    opened.page.keyboard.press("End")
    shown = opened.page.locator("#calibration .values").inner_text()
    assert "87.5%" in shown and "accuracy: 90.0%" in shown


def test_dragging_zooms_all_charts_over_the_steps(opened: Opened) -> None:
    selectors = [f"#{name} .ticks.x span" for name in ("loss", "learning-rate", "gradient-norm")]
    before = [opened.ticks(selector) for selector in selectors]
    path = opened.page.locator("#loss path.line").get_attribute("d")
    opened.drag("#loss .area", 0.5, 0.75)
    for selector in selectors:
        ticks = [int(text.replace(",", "")) for text in opened.ticks(selector)]
        assert min(ticks) >= 1000 and max(ticks) <= 1500 and len(ticks) >= 3
    assert opened.page.locator("#loss path.line").get_attribute("d") != path
    opened.page.locator("#loss .area").dblclick()
    assert [opened.ticks(selector) for selector in selectors] == before
    opened.page.get_by_role("button", name="Last tenth").click()
    assert min(int(t.replace(",", "")) for t in opened.ticks(selectors[0])) >= 1790


def test_the_script_draws_what_the_page_already_shows(opened: Opened) -> None:
    """axes.py and page.js agree, so that nothing jumps at the first zoom."""
    state = """() => [...document.querySelectorAll(".chart[id] .area")].map((area) => [
      [...area.querySelectorAll(".ticks span")].map((e) => e.textContent),
      [...area.querySelectorAll("path")].map((e) => e.getAttribute("d").match(/-?[\\d.]+/g)
        .map(Number)),
    ])"""
    before = opened.page.evaluate(state)
    opened.page.get_by_role("button", name="All").click()
    after = opened.page.evaluate(state)
    for (labels, paths), (new_labels, new_paths) in zip(before, after, strict=True):
        assert labels == new_labels
        for path, new_path in zip(paths, new_paths, strict=True):
            assert path == pytest.approx(new_path, abs=0.3)


def test_the_theme_follows_the_system_and_the_button(browser: Any, file: Path) -> None:
    light, dark = (
        Opened(browser, file.as_uri(), color_scheme=scheme) for scheme in ("light", "dark")
    )
    white, black = light.background(), dark.background()
    assert white == "rgb(255, 255, 255)" and black != white
    light.page.get_by_role("button", name="Dark").click()
    assert light.background() == black
    assert light.page.evaluate(LOW_CONTRAST) == []
    light.page.get_by_role("button", name="Light").click()
    assert light.background() == white
    assert light.page.evaluate(LOW_CONTRAST) == []


def test_a_phone_scrolls_in_one_direction_only(browser: Any, file: Path) -> None:
    phone = Opened(browser, file.as_uri(), viewport=PHONE, has_touch=True)
    phone.page.evaluate("for (const e of document.querySelectorAll('details')) e.open = true")
    phone.page.locator("#loss .area").tap()
    assert phone.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert phone.page.locator("#loss .values").is_visible()


@pytest.mark.parametrize("sandbox", ["", "allow-scripts"])
def test_it_renders_in_a_sandbox_with_and_without_scripts(
    browser: Any, file: Path, tmp_path: Path, sandbox: str
) -> None:
    """MLflow shows artifacts in such a frame, at an address of its own."""
    outer = tmp_path / "outer.html"
    html = file.read_text().replace("&", "&amp;").replace('"', "&quot;")
    outer.write_text(
        f'<!doctype html><iframe width=900 height=900 sandbox="{sandbox}" srcdoc="{html}"></iframe>'
    )
    opened = Opened(browser, outer.as_uri())
    frame = opened.page.frame_locator("iframe")
    assert frame.locator("h1").inner_text() == "tinyllm-1.3M"
    assert "1.192" in frame.locator(".headline").inner_text()
    assert frame.locator("#loss path.line").bounding_box()["width"] > 300
    assert frame.locator("#theme").is_visible() == (sandbox == "allow-scripts")
    assert [fault for fault in opened.faults if "sandboxed" not in fault] == []


def test_it_prints(browser: Any, file: Path, tmp_path: Path) -> None:
    opened = Opened(browser, file.as_uri(), color_scheme="dark")
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.background() == "rgb(255, 255, 255)"  # no ink for a dark page
    assert not opened.page.locator("#theme").is_visible()
    opened.page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").stat().st_size > 10_000
