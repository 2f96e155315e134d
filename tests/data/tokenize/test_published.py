"""A published vocabulary is downloaded in time, or an error says how to work without a network."""

import hashlib
import inspect
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiktoken
import tiktoken_ext.openai_public
import yaml

from tests.helpers import ROOT
from tinyllm.data.sources.fetch import Patience
from tinyllm.data.tokenize.published import FILES, SITE, load_published
from tinyllm.settings import strict_yaml

BRIEF = Patience(stall=0.4, retries=0)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a proxy that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield address


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache for tiktoken, which forgets all loaded encodings."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    return tmp_path / "cache"


def key(name: str, number: int) -> str:
    return hashlib.sha1(f"{SITE}/{FILES[name][number][0]}".encode()).hexdigest()


def test_the_files_match_those_of_tiktoken() -> None:
    assert set(FILES) == set(tiktoken.list_encoding_names())
    for name, files in FILES.items():
        source = inspect.getsource(getattr(tiktoken_ext.openai_public, name))
        if name != "o200k_harmony":  # it uses the files of o200k_base
            assert all(f"{SITE}/{path}" in source and sha in source for path, sha in files)
            assert source.count("https://") == len(files)


@pytest.mark.usefixtures("silent")
def test_a_proxy_that_never_answers_is_an_error(cache: Path, downloads: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^tokenize\.encoding = 'gpt2': its .* downloaded: .*"
    ) as e:
        load_published("gpt2", downloads, BRIEF)
    assert "TIKTOKEN_CACHE_DIR=vocabularies python -c" in str(e.value)
    assert "\n" not in str(e.value)
    assert not cache.exists()


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.mark.usefixtures("silent")
def test_the_stage_downloads_it_before_reading_the_corpus(cache: Path, tmp_path: Path) -> None:
    params = strict_yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["download"] |= {"source": "path", "path": "text.txt"}
    params["tokenize"]["encoding"] = "r50k_base"
    params["runtime"] |= {"download_timeout": 0.4, "download_retries": 0}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (tmp_path / "text.txt").write_text("a text")
    run = [sys.executable, "-m"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(tmp_path)}
    subprocess.run(
        [*run, "stages.download", "--params", "params.yaml", "--raw", "raw"],
        cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    (tmp_path / "raw/files/text.txt").write_text("corrupt, which reading it would find")
    outs = [f"--{name}={name}" for name in ("tokenizer", "tokens", "reports")]
    ended = subprocess.run(
        [*run, "stages.tokenize", "--params", "params.yaml", "--raw", "raw", *outs],
        cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: tokenize.encoding = 'r50k_base': its ")
    assert not cache.exists()


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("where", ["cache", "ours", "nowhere to write", "no cache"])
def test_a_cached_vocabulary_needs_no_network(
    tiktoken_cache: Path,
    cache: Path,
    downloads: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    folder = cache if where == "cache" else downloads / "tiktoken"
    folder.mkdir(parents=True)
    for number in range(2):
        shutil.copyfile(tiktoken_cache / key("gpt2", number), folder / key("gpt2", number))
    if where == "nowhere to write":
        cache.write_text("a file where the folder should be")
    setting = "" if where == "no cache" else str(cache)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", setting)
    load_published("gpt2", downloads, BRIEF)
    assert tiktoken.get_encoding("gpt2").n_vocab == 50257
    assert os.environ["TIKTOKEN_CACHE_DIR"] == setting
    if where == "ours":
        assert (cache / key("gpt2", 1)).exists()


@pytest.mark.usefixtures("silent")
def test_a_corrupt_file_in_the_cache_is_not_used(
    tiktoken_cache: Path, cache: Path, downloads: Path
) -> None:
    cache.mkdir()
    shutil.copyfile(tiktoken_cache / key("gpt2", 0), cache / key("gpt2", 0))
    (cache / key("gpt2", 1)).write_text("{}")
    with pytest.raises(ValueError, match=r"encoder\.json could not be downloaded"):
        load_published("gpt2", downloads, BRIEF)
