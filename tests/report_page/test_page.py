"""The page is the same for the same content, safe for any text, small, and readable as it is."""

import json
import math
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.model_card.test_card import training
from tests.report_page.helpers import WEIGHTS, content
from tinyllm.report_page import page
from tinyllm.report_page.content import LONGEST_SAMPLE
from tinyllm.report_page.settings import DEFAULTS, setting_rows
from tinyllm.settings import strict_yaml
from tinyllm.settings.load import flatten

# Each is a text that ends or begins an element, or that HTML, JSON or the direction of a line
# can't hold.
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script> ]]> <![CDATA[ &lt; &amp;amp;",
    "</pre></title></style><img src=x onerror=alert(1)>",
    "\"'><svg/onload=alert(1)>`${alert(1)}`",
    "{{ 7 * 7 }} {% include 'page.css' %}",
    "NUL \0, escape \x1b[31m, delete \x7f, C1 \x85, lone \ud800, \uffff \u2028 \u2029",
    "\u202eevil.exe\u202c \u2066isolate עברית العربية",
    "👩🏽‍🚀🇫🇷 日本語 हिन्दी e\u0301",
    "a\r\nb\rc\td",
    "W" * 4000,
]


class Reader(HTMLParser):
    """Collects what a browser would see: elements, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.samples: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)
        if tag == "pre":
            self.samples.append("")
        if tag == "script":
            self.scripts.append("")
        if tag in ("td", "th"):
            self.text += " "

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self._inside:
            self.scripts[-1] += data
        if {"script", "style"} & set(self._inside):
            return
        self.text += data
        if "pre" in self._inside:
            self.samples[-1] += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def test_hostile_text_stays_text_wherever_it_is(tmp_path: Path) -> None:
    everything = " ".join(HOSTILE)[:290]
    plain = Reader(page.draw(content(tmp_path / "a")))
    shown = content(
        tmp_path / "b",
        samples=[(text, text) for text in HOSTILE],
        text={"source": everything, "licence": everything},
        tokenizer=everything,
    )
    html = page.draw(shown)
    hostile = Reader(html)
    held, script = hostile.scripts
    assert json.loads(held) == page.read(html) and script == plain.scripts[1]
    for tag in ("script", "style", "img", "svg", "title", "h2"):
        assert hostile.count(tag) == plain.count(tag), tag
    assert not [value for _, attributes in hostile.elements for value in attributes
                if value.startswith("on")]  # fmt: skip
    expected = [page.visible(text)[:LONGEST_SAMPLE] * 2 for text in HOSTILE]
    assert hostile.samples[: len(HOSTILE)] == expected
    assert "\0" not in html and "\r" not in html and "\x1b" not in html
    assert "NUL ␀, escape ␛[31m, delete ␡" in html
    html.encode()  # no lone surrogates


def test_the_content_can_be_read_from_the_page(tmp_path: Path) -> None:
    shown = content(tmp_path, samples=[(text, text) for text in HOSTILE[:5]])
    html = page.draw(shown)
    assert page.read(html) == json.loads(json.dumps(shown))
    assert page.draw(page.read(html)) == html  # nothing is lost by another drawing


@pytest.mark.parametrize(
    ("html", "reason"),
    [
        ("<p>another page", "has no content"),
        ('<script type="application/json" id="content">{"a":</script>', "has no content"),
        ('<script type="application/json" id="content">[1]</script>', "has no content"),
        ('<script type="application/json" id="content">{"format":99}</script>', "is 99"),
    ],
)
def test_another_page_is_an_error(html: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        page.read(html)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (content(tmp_path / name) for name in ("a", "elsewhere"))
    assert first == second and page.draw(first) == page.draw(second)


def test_the_numbers_are_readable_without_a_script(tmp_path: Path) -> None:
    reader = Reader(page.draw(content(tmp_path)))
    words = " ".join(reader.text.split())
    for text in (
        "1.192 bits per byte", "zlib 2.338", "lzma 1.976", "bigram 1.814", "99,449 test tokens",
        "47.8%", "CC BY 4.0", WEIGHTS, "train.learning_rate", "Return the mean.",
        'model="models/tinyllm"',
    ):  # fmt: skip
        assert text in words, text
    headings = [int(tag[1]) for tag, _ in reader.elements if tag in ("h1", "h2", "h3")]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert all("scope" in attributes for tag, attributes in reader.elements if tag == "th")


def test_a_large_run_gives_a_page_below_a_megabyte_in_seconds(tmp_path: Path) -> None:
    samples = [("p" * 50_000, "日" * 50_000)] * 300
    began = time.process_time()
    html = page.draw(content(tmp_path, steps=60_000, positions=20_000, samples=samples))
    assert time.process_time() - began < 6  # 2 s on a quiet machine, with writing the tables
    assert 50_000 < len(html.encode()) < 1_000_000
    assert "The first 20 of 300 prompts" in html and "60,000 steps, in groups of 100" in html


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_diverged_training_has_gaps_in_its_curves(tmp_path: Path, broken: float) -> None:
    shown = content(tmp_path, loss=lambda step: 3.0 if step < 40 else broken)
    loss = page.read(page.draw(shown))["charts"]["training"][0]["series"]
    (line,) = (series for series in loss if series["name"] == "batches, smoothed")
    assert line["y"][0] == 3.0 and line["y"][-1] is None
    assert "not finite" in page.draw(shown)


def test_a_training_of_one_step_has_a_page(tmp_path: Path) -> None:
    assert "1.192" in page.draw(content(tmp_path, steps=1))


def test_a_page_that_fails_to_draw_loses_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    title = "a</title><script>"
    page.write(tmp_path / "index.html", {**content(tmp_path), "title": title, "splits": None})
    assert "can't draw index.html: " in capsys.readouterr().err
    text = (tmp_path / "index.html").read_text()
    assert "failed to draw" in text and "<script>" not in text


def test_settings_that_differ_from_the_defaults_come_first(tmp_path: Path) -> None:
    settings = replace(training()).settings | {"n_layer": 6, "n_head": 8, "n_kv_head": 8}
    rows = content(tmp_path, settings=settings, seed=1337)["settings"]
    changed = [row["name"] for row in rows if row["changed"]]
    # n_kv_head is null by default: it follows from n_head.
    assert changed == [row["name"] for row in rows[:2]] == ["train.n_layer", "train.n_head"]
    assert (rows[0]["value"], rows[0]["default"]) == ("6", "4")
    grouped = setting_rows({"train.n_head": 8, "train.n_kv_head": 2})
    assert [row["changed"] for row in grouped] == [True, True]


def test_the_defaults_are_those_of_params_yaml() -> None:
    """Of the one in Git: a user may change the one in the folder."""
    show = ["git", "show", "HEAD:params.yaml"]
    done = subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=False)
    text = done.stdout if done.returncode == 0 else (ROOT / "params.yaml").read_text()
    shipped = {
        name: value
        for name, value in flatten(strict_yaml.load(text)).items()
        if not name.startswith("runtime.")
    }
    assert json.loads(DEFAULTS.read_text()) == shipped, f"correct {DEFAULTS.name}"
