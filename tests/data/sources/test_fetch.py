"""A download ends with the complete file or a single-line error, with any fault of the server.

A real server on this machine produces every fault (site.py).
"""

import email.utils
import gzip
import hashlib
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.sources.conftest import PATIENCE, download, sha256
from tests.data.sources.site import Behaviour, Request, Site
from tinyllm.common.files import sha256_of
from tinyllm.data.sources.corpus import fetch_corpus
from tinyllm.data.sources.fetch import fetch

DATA = random.Random(1).randbytes(300_000)
HALF = len(DATA) // 2
Fetch = Callable[..., bytes]


@pytest.fixture
def get(downloads: Path) -> Fetch:
    """Return a function that downloads an address and returns the bytes of the complete file."""

    def get(url: str, digest: str | None = None, most: int = 10**6) -> bytes:
        path, found, _ = fetch(url, downloads, sha256=digest, most=most, patience=PATIENCE)
        assert found == sha256_of(path) == path.name
        assert whole(downloads) == [path]
        return path.read_bytes()

    return get


def whole(downloads: Path) -> list[Path]:
    """Return the complete files."""
    return list(downloads.glob("*/" + "?" * 64))


def parts(downloads: Path) -> list[int]:
    """Return the sizes of the partial files."""
    return [path.stat().st_size for path in downloads.glob("*/part")]


def well(request: Request) -> None:
    request.serve(DATA)


def half(request: Request) -> None:
    """Promise the whole file, send half, and close the connection."""
    start = request.asked_from() or 0
    span = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    if start:
        request.head(206, Content_Length=len(DATA) - start, ETag='"the first"', Content_Range=span)
    else:
        request.head(200, Content_Length=len(DATA), ETag='"the first"')
    request.send(DATA[start : start + HALF])


def reset(request: Request) -> None:
    half(request)
    request.reset()


def stall(request: Request) -> None:
    half(request)
    time.sleep(1)


def drip(request: Request) -> None:
    """Send a byte now and then, so that no read ever times out."""
    request.head(200, Content_Length=len(DATA), ETag='"the first"')
    for byte in DATA[:40]:
        request.send(bytes([byte]))
        time.sleep(0.05)


def status(code: int, **headers: object) -> Behaviour:
    return lambda request: request.head(code, **({"Content_Length": 0} | headers))


def to(target: str) -> Behaviour:
    return status(302, Location=target)


# ----- faults that pass


@pytest.mark.parametrize("fault", [half, reset, stall, status(500), status(503), status(429)])
def test_a_download_resumes_after_a_fault(site: Site, get: Fetch, fault: Behaviour) -> None:
    assert get(site.at("/a", fault, well), sha256(DATA)) == DATA
    assert len(site.seen) == 2
    asked = site.seen[1][1]
    if fault in (half, stall):  # a reset may drop bytes in transit
        assert (asked["Range"], asked["If-Range"]) == (f"bytes={HALF}-", '"the first"')


def test_two_server_errors_are_retried(site: Site, get: Fetch) -> None:
    assert get(site.at("/a", status(500), status(500), well)) == DATA


def test_a_connection_that_is_reset_repeatedly(site: Site, get: Fetch) -> None:
    def crumb(request: Request) -> None:
        start = request.asked_from() or 0
        if start >= 200_000:
            request.serve(DATA)
            return
        half_there = {"Content_Range": f"bytes {start}-299999/300000"} if start else {}
        headers = {"Content_Length": len(DATA) - start, "ETag": '"the first"', **half_there}
        request.head(206 if start else 200, **headers)
        request.send(DATA[start : start + 70_000])

    assert get(site.at("/a", crumb)) == DATA
    assert [seen[1].get("Range") for seen in site.seen] == [
        None, "bytes=70000-", "bytes=140000-", "bytes=210000-"
    ]  # fmt: skip


def test_a_server_that_ignores_the_range(site: Site, get: Fetch) -> None:
    def everything(request: Request) -> None:
        request.head(200, Content_Length=len(DATA))
        request.send(DATA)

    assert get(site.at("/a", half, everything)) == DATA


@pytest.mark.parametrize("honest", [True, False], ids=["200", "206"])
def test_a_file_that_changed_is_downloaded_from_scratch(
    site: Site, get: Fetch, honest: bool
) -> None:
    other = DATA[::-1]

    def changed(request: Request) -> None:
        start = request.asked_from()
        if honest or start is None:
            request.serve(other, '"the second"')
            return
        span = f"bytes {start}-{len(other) - 1}/{len(other)}"
        length = len(other) - start
        request.head(206, Content_Length=length, Content_Range=span, ETag='"the second"')
        request.send(other[start:])

    assert get(site.at("/a", half, changed)) == other


def test_a_wrong_range_is_retried(site: Site, get: Fetch) -> None:
    def wrong(request: Request) -> None:
        request.head(206, Content_Length=5, Content_Range=f"bytes 0-4/{len(DATA)}")
        request.send(DATA[:5])

    assert get(site.at("/a", half, wrong, well)) == DATA
    assert "Range" not in site.seen[2][1]


def test_a_range_beyond_the_end_is_retried(site: Site, get: Fetch) -> None:
    assert get(site.at("/a", half, status(416), well)) == DATA


def test_without_a_version_it_starts_from_scratch(site: Site, get: Fetch) -> None:
    def nameless(request: Request) -> None:
        request.head(200, Content_Length=len(DATA))
        request.send(DATA[:HALF])

    assert get(site.at("/a", nameless, nameless, well)) == DATA
    assert all("Range" not in headers for _, headers in site.seen)


def test_a_date_serves_as_a_version(site: Site, get: Fetch) -> None:
    date = "Sat, 21 Nov 2026 10:00:00 GMT"

    def dated(request: Request) -> None:
        request.head(200, Content_Length=len(DATA), Last_Modified=date, ETag='W/"weak"')
        request.send(DATA[:HALF])

    assert get(site.at("/a", dated, well)) == DATA
    assert site.seen[1][1]["If-Range"] == date


def test_no_length_and_chunks(site: Site, get: Fetch, downloads: Path) -> None:
    def endless_looking(request: Request) -> None:
        request.head(200)
        request.send(DATA)

    def chunked(request: Request) -> None:
        request.head(200, Transfer_Encoding="chunked")
        request.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(DATA), DATA))

    assert get(site.at("/a", endless_looking)) == DATA
    for left in downloads.iterdir():
        shutil.rmtree(left)
    assert get(site.at("/b", chunked)) == DATA


def test_chunks_that_end_early_are_an_error(site: Site, get: Fetch, downloads: Path) -> None:
    def cut(request: Request) -> None:
        request.head(200, Transfer_Encoding="chunked")
        request.send(b"%x\r\n%s\r\n" % (len(DATA), DATA))

    with pytest.raises(ValueError, match="could not be downloaded: the server closed the connect"):
        get(site.at("/a", cut))
    assert whole(downloads) == []


def test_http_redirects_are_followed(site: Site, get: Fetch) -> None:
    site.at("/b", to("c?x=1"))
    site.at("/c?x=1", to(f"{site.address}/d"))
    site.at("/d", well)
    assert get(site.at("/a", to("/b"))) == DATA


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retries_wait_as_long_as_the_server_asks(site: Site, get: Fetch, form: str) -> None:
    wait = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    started = time.monotonic()
    assert get(site.at("/a", status(429, Retry_After=wait), well)) == DATA
    assert 0.9 < time.monotonic() - started < 5


# ----- faults that stay


@pytest.mark.parametrize(
    ("behaviour", "message", "tries"),
    [
        (half, "could not be downloaded: the server closed the connection early; 150,000 bytes", 4),
        (stall, "could not be downloaded: timed out; 150,000 bytes are kept", 4),
        (status(404), "could not be downloaded: 404 Not Found$", 1),
        (status(403), "could not be downloaded: 403 Forbidden$", 1),
        (status(500), "could not be downloaded: 500 Internal Server Error$", 4),
        (status(429, Retry_After=3600), "the server asks to retry in 3,600 s$", 1),
        (to("file:///etc/passwd"), r"redirects to 'file:///etc/passwd', which is not an", 1),
        (to("ftp://example.com/"), r"redirects to 'ftp://example\.com/', which is not an HTTP", 1),
        (to("/a"), "redirects more than 10 times$", 11),
        (drip, "could not be downloaded: only .* bytes arrived in ", 4),
        (status(200, Content_Encoding="br"), "was sent as br, although", 1),
    ],
)
def test_a_permanent_fault_is_reported(
    site: Site, get: Fetch, downloads: Path, behaviour: Behaviour, message: str, tries: int
) -> None:
    def without_resume(request: Request) -> None:
        """Ignore ranges, so that no try gets further than another."""
        del request.headers["Range"]
        behaviour(request)

    with pytest.raises(ValueError, match=message) as caught:
        get(site.at("/a", without_resume))
    assert "\n" not in str(caught.value)
    assert len(site.seen) == tries
    assert whole(downloads) == []


@pytest.mark.parametrize(
    "wrong", [DATA[:-1] + b"!", DATA[:-1], DATA + b"!"], ids=["bytes", "short", "long"]
)
def test_a_file_with_a_wrong_digest_is_deleted(
    site: Site, get: Fetch, downloads: Path, wrong: bytes
) -> None:
    with pytest.raises(ValueError, match=f"{sha256(wrong)}, not {sha256(DATA)} as required"):
        get(site.file("/a", wrong), sha256(DATA))
    assert whole(downloads) == [] and parts(downloads) == []


def test_a_body_longer_than_stated_is_cut(site: Site, get: Fetch) -> None:
    def too_much(request: Request) -> None:
        request.head(200, Content_Length=len(DATA))
        request.send(DATA + b"more")

    assert get(site.at("/a", too_much), sha256(DATA)) == DATA


def test_an_endless_body_is_refused_at_the_bound(site: Site, get: Fetch, downloads: Path) -> None:
    def endless(request: Request) -> None:
        request.head(200)
        for _ in range(500):  # 32 MB, enough to count as endless
            request.send(bytes(1 << 16))

    with pytest.raises(ValueError, match=r"/a has more, and download\.max_bytes allows 1,000,000 "):
        get(site.at("/a", endless))
    assert whole(downloads) == []
    site.at("/b", status(200, Content_Length=10**13))
    with pytest.raises(ValueError, match=r"/b has 10,000,000,000,000 bytes"):
        get(site.address + "/b")
    with pytest.raises(
        ValueError, match=r"/b: its 10,000,000,000,000 bytes do not fit on the disk"
    ):
        get(site.address + "/b", most=10**15)
    assert sum(parts(downloads)) <= 1_000_000


def test_a_redirect_with_an_endless_body(site: Site, get: Fetch) -> None:
    def endless(request: Request) -> None:
        request.head(302, Location="/b")
        for _ in range(500):  # 32 MB, enough to count as endless
            request.send(bytes(1 << 16))

    site.at("/b", well)
    assert get(site.at("/a", endless)) == DATA


def test_a_server_that_is_down(get: Fetch) -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=r"could not be downloaded: .*Connection refused$"):
            get(f"http://127.0.0.1:{port}/a")


def test_a_server_that_does_not_speak_http(get: Fetch, downloads: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-nobody\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ValueError, match="could not be downloaded"):
            get(f"http://127.0.0.1:{server.getsockname()[1]}/a")
    assert whole(downloads) == []


def test_a_gzip_bomb_from_the_web(site: Site, raw: Path, downloads: Path) -> None:
    url = site.file("/a.txt.gz", gzip.compress(b" " * 5_000_000))
    settings = download(source="url", url=url, max_bytes=1_000_000)
    with pytest.raises(ValueError, match=r"unpacks to more than download\.max_bytes = 1,000,000 "):
        fetch_corpus(settings, raw, downloads, PATIENCE)


FULL = """
import resource, sys
from pathlib import Path
from tinyllm.common import console
from tinyllm.data.sources.fetch import Patience, fetch
if sys.argv[3]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
def main():
    fetch(sys.argv[1], Path(sys.argv[2]), sha256=None, most=10**9, patience=Patience(retries=0))
console.run(main)
"""


def in_another_process(url: str, downloads: Path, limit: str = "") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", FULL, url, str(downloads), limit], stderr=subprocess.PIPE, text=True
    )


def test_a_full_disk(site: Site, get: Fetch, downloads: Path) -> None:
    """The download resumes once there is space."""
    url = site.file("/a", DATA)
    process = in_another_process(url, downloads, "100000")
    _, printed = process.communicate()
    assert process.returncode == 1
    assert (
        printed == f"error: {url} could not be written: File too large; 100,000 bytes are kept"
        " for the next run\n"
    )
    assert whole(downloads) == [] and parts(downloads) == [100_000]
    assert get(url) == DATA
    assert site.seen[-1][1]["Range"] == "bytes=100000-"


# ----- from run to run


def test_a_killed_download_is_resumed(site: Site, get: Fetch, downloads: Path) -> None:
    url = site.at("/a", stall, well)
    process = in_another_process(url, downloads)
    deadline = time.monotonic() + 20
    while parts(downloads) != [HALF]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert get(url, sha256(DATA)) == DATA
    assert site.seen[1][1]["Range"] == f"bytes={HALF}-"


def test_a_corrupt_partial_file_is_not_used(site: Site, get: Fetch, downloads: Path) -> None:
    url = site.at("/a", half, status(404), well)
    with pytest.raises(ValueError, match="404"):
        get(url, sha256(DATA))
    (part,) = downloads.glob("*/part")
    part.write_bytes(bytes(HALF))
    with pytest.raises(ValueError, match="the file was deleted"):
        get(url, sha256(DATA))
    assert get(url, sha256(DATA)) == DATA

    (state,) = [part.with_name("state.json")]
    state.write_text("{")
    part.write_bytes(b"part")
    assert get(url) == DATA


def test_a_complete_file_is_not_downloaded_again(site: Site, get: Fetch, downloads: Path) -> None:
    url = site.file("/a", DATA)
    for digest in (None, sha256(DATA), None):
        assert get(url, digest) == DATA
    assert len(site.seen) == 1
    (path,) = whole(downloads)
    path.write_bytes(b"damaged")
    assert get(url) == DATA
    site.file("/a", b"new")
    assert get(url) == DATA  # verified against its digest
    assert get(url, hashlib.sha256(b"new").hexdigest()) == b"new"
    assert len(site.seen) == 3


def test_two_processes_download_a_file_once(site: Site, get: Fetch) -> None:
    def slowly(request: Request) -> None:
        time.sleep(0.3)
        well(request)

    url = site.at("/a", slowly)
    threads = [threading.Thread(target=get, args=(url,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get(url) == DATA
    assert len(site.seen) == 1
