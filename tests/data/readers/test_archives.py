"""Archives and compressed files as other programs write them, and malicious ones."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.readers.packed import COMPRESS, as_jsonl, long_window, tarred, zipped
from tests.data.sources.conftest import Documents
from tinyllm.data.readers.raw_folder import Manifest, read_manifest

FetchIt = Callable[..., Manifest]
TAR_NAMES = {
    "": ["a.tar"],
    ".gz": ["a.tar.gz", "a.tgz", "a.TGZ"],
    ".bz2": ["a.tar.bz2", "a.tbz2"],
    ".xz": ["a.tar.xz", "a.txz"],
    ".zst": ["a.tar.zst", "a.tzst"],
}


@pytest.mark.parametrize("packing", TAR_NAMES)
def test_a_tar_archive_counts_as_a_folder(documents: Documents, texts: Path, packing: str) -> None:
    members = [
        ("in/b.txt", b"b"),
        ("in/a.jsonl.gz", COMPRESS[".gz"](as_jsonl([{"text": "a"}]))),
        ("README.md", b"no"),
        ("in/._b.txt", b"\0"),
        ("x" * 200 + "/ü.txt", b"long"),
    ]
    folder = tarred([("in", b"")], type=tarfile.DIRTYPE)[:512]
    for name in TAR_NAMES[packing]:
        path = texts / name
        path.write_bytes(COMPRESS[packing](folder + tarred(members)))
        assert documents(path=str(path)) == ["b", "a", "long"]  # in the archive's order
        assert documents(path=str(texts), files="**/*.md") == ["no"]
        path.unlink()


def test_a_tar_archive_may_be_compressed_differently_from_its_name(
    documents: Documents, texts: Path
) -> None:
    (texts / "a.tgz").write_bytes(tarred([("a.txt", b"a text")]))
    assert documents(path=str(texts / "a.tgz")) == ["a text"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_all_members_with_the_same_name_are_read(
    documents: Documents, raw: Path, texts: Path, kind: str
) -> None:
    members = [("a.txt", b"one"), ("b.txt", b"two"), ("a.txt", b"three")]
    pack = zipped if kind == "zip" else tarred
    with pytest.warns(UserWarning, match="Duplicate") if kind == "zip" else _nothing():
        (texts / f"a.{kind}").write_bytes(pack(members))
    found = ["one", "three", "two"] if kind == "zip" else ["one", "two", "three"]
    assert documents(path=str(texts)) == found
    (file,) = read_manifest(raw).files
    assert file.members is not None and sorted(file.members) == ["a.txt", "a.txt", "b.txt"]


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


# ----- zstd


SKIPPED = struct.pack("<II", 0x184D2A50, 7) + b"ignored"


@pytest.mark.parametrize(
    "data",
    [
        long_window(b"a text"),
        long_window(b"a ") + long_window(b"text"),
        SKIPPED + long_window(b"a ") + SKIPPED + COMPRESS[".zst"](b"text") + SKIPPED,
    ],
)
def test_zstd_with_a_long_window_several_frames_and_frames_to_skip(
    documents: Documents, fetch_it: FetchIt, texts: Path, data: bytes
) -> None:
    (texts / "a.txt.zst").write_bytes(data)
    assert documents(path=str(texts)) == ["a text"]
    (texts / "a.txt.zst").write_bytes(data[:-3])
    with pytest.raises(
        ValueError, match=r"^a\.txt\.zst is corrupt or cut short: the file ends within"
    ):
        fetch_it(path=str(texts))


# ----- corrupt and malicious archives


def test_archives_that_need_a_password_or_another_program(fetch_it: FetchIt, texts: Path) -> None:
    data = bytearray(zipped([("a.txt", b"a text")]))
    directory = data.index(b"PK\x01\x02")
    for change, flag, message in [
        ((6, directory + 8), 1, "is encrypted; unpack it first, with its password$"),
        ((8, directory + 10), 9, "can't be unpacked: .*compression method is not supported"),
    ]:
        changed = bytearray(data)
        for at in change:
            changed[at] = flag
        (texts / "a.zip").write_bytes(changed)
        with pytest.raises(ValueError, match=rf"^a\.zip/a\.txt {message}"):
            fetch_it(path=str(texts))


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_a_tar_archive_cut_short_or_joined_is_an_error(
    fetch_it: FetchIt, texts: Path, packing: str
) -> None:
    whole = tarred([(f"{n}.txt", b"a text" * 300) for n in range(4)])
    begin = whole.index(b"2.txt")
    flipped = bytearray(whole)
    flipped[begin + 150] ^= 1
    for data in (whole[:begin], whole[: begin + 700], bytes(flipped), whole + whole, b""):
        (texts / f"a.tar{packing}").write_bytes(COMPRESS[packing](data))
        with pytest.raises(ValueError, match=r"^a\.tar.* is corrupt or cut short: .") as caught:
            fetch_it(path=str(texts))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt"])
def test_members_whose_names_lead_outside_a_tar_archive(
    fetch_it: FetchIt, tmp_path: Path, texts: Path, name: str
) -> None:
    (texts / "a.tar").write_bytes(tarred([("a.txt", b"good"), (name, b"bad")]))
    for path in (texts, texts / "a.tar"):
        with pytest.raises(ValueError, match=rf"^a\.tar contains '{name}', a name outside"):
            fetch_it(path=str(path))
    assert not list(tmp_path.rglob("out.txt"))


# ----- members that are not files, or not selected


def special(name: str, type: bytes, linkname: str = "") -> bytes:
    return tarred([(name, b"")], type=type, linkname=linkname)[:512]


def linked() -> tuple[bytes, bytes]:
    """Build a tar and a zip archive with a file, a link and a pipe to read, and others to skip."""
    tar = b"".join(
        special(f"s/{name}", kind, "/etc/passwd")
        for name, kind in [
            ("LICENSE", tarfile.SYMTYPE),
            ("link.txt", tarfile.SYMTYPE),
            ("pipe.txt", tarfile.FIFOTYPE),
            ("disk.txt", tarfile.BLKTYPE),
            ("lost.txt", tarfile.LNKTYPE),
            ("../pipe", tarfile.FIFOTYPE),
        ]
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("s/a.txt", "a text")
        archive.writestr("../notes.md", "not read")
        for name in ("s/LICENSE", "s/link.txt"):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")
    return tar + tarred([("s/a.txt", b"a text"), ("../notes.md", b"not read")]), buffer.getvalue()


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_links_and_pipes_in_an_archive_are_skipped_and_reported(
    documents: Documents, texts: Path, capfd: pytest.CaptureFixture[str], name: str, alone: bool
) -> None:
    tar, zip = linked()
    (texts / name).write_bytes(zip if name == "a.zip" else COMPRESS[".gz"](tar))
    assert documents(path=str(texts / name if alone else texts)) == ["a text"]
    odd = "s/link.txt (a link)"
    if name == "a.tar.gz":
        odd = f"s/disk.txt (a device), {odd}, s/lost.txt (a broken link), "
        odd += "s/pipe.txt (a named pipe)"
    assert capfd.readouterr().err == (
        f"download: not read in {name}, because they are not files: {odd}\n"
    )


def test_an_archive_of_links_only_is_an_error(fetch_it: FetchIt, texts: Path) -> None:
    (texts / "a.tar").write_bytes(tarred([("a.txt", b"")], type=tarfile.SYMTYPE, linkname="b"))
    with pytest.raises(ValueError, match=r"^a\.tar: none of its 1 file\(s\) .*"):
        fetch_it(path=str(texts / "a.tar"))


@pytest.mark.parametrize("packing", ["", ".gz"])
def test_a_hard_link_in_a_tar_archive_is_read(
    documents: Documents, raw: Path, texts: Path, tmp_path: Path, packing: str
) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "COPYING").write_text("the licence")
    for name in ("copying.txt", "licence.txt"):  # tar packs the second as a link to the first
        (folder / name).hardlink_to(folder / "COPYING")
    (folder / "a.txt").write_text("a text")
    with tarfile.open(texts / f"a.tar{packing}", "w:gz" if packing else "w") as archive:
        for name in ("COPYING", "a.txt", "licence.txt", "copying.txt"):
            archive.add(folder / name, f"s/{name}")
    assert documents(path=str(texts)) == ["a text", "the licence", "the licence"]
    (file,) = read_manifest(raw).files
    assert file.members == ["s/a.txt", "s/licence.txt", "s/copying.txt"]


def test_hard_links_count_with_their_unpacked_size(fetch_it: FetchIt, texts: Path) -> None:
    data = tarred([("a", b" " * 1_000_000)])[: 1_000_448 + 512]
    data += b"".join(special(f"{n}.txt", tarfile.LNKTYPE, "a") for n in range(9)) + bytes(1024)
    (texts / "a.tar").write_bytes(data)
    with pytest.raises(ValueError, match=r"unpacks to more than download\.max_bytes = 5,000,000 "):
        fetch_it(path=str(texts), max_bytes=5_000_000)


@pytest.mark.parametrize("files", [None, "**/*"])
@pytest.mark.parametrize("alone", [True, False])
def test_archives_within_an_archive_are_reported(
    documents: Documents,
    fetch_it: FetchIt,
    texts: Path,
    capfd: pytest.CaptureFixture[str],
    alone: bool,
    files: str | None,
) -> None:
    inner = zipped([("a.txt", b"a text")])
    path = str(texts / "a.zip" if alone else texts)
    members = [("part1.zip", inner), ("part2.tar.gz", b""), ("README.txt", b"read me")]
    (texts / "a.zip").write_bytes(zipped(members))
    assert documents(path=path, files=files) == ["read me"]
    line = "download: 2 archive(s) within a.zip are not read: part1.zip, part2.tar.gz; unpack a.zip"
    assert capfd.readouterr().err == f"{line} first\n"
    for name in ("in.zip", "x.tar.gz"):
        (texts / "a.zip").write_bytes(zipped([(name, inner)]))
        with pytest.raises(ValueError, match=rf"{name}; nested archives are not read; unpack it"):
            fetch_it(path=path, files=files)
    (texts / "a.zip").write_bytes(zipped([("in", inner)]))  # recognised by the content
    with pytest.raises(ValueError, match=r"^a\.zip/in is not text: .* archive .*; nested arch"):
        fetch_it(path=str(texts / "a.zip"))


def header(size: bytes, kind: bytes) -> bytes:
    """Build a tar header with the given bytes as its size field."""
    info = tarfile.TarInfo("a.txt")
    info.type = kind
    data = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    data[124:136] = size.ljust(12, b"\0")
    data[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(data))[0]  # type: ignore[attr-defined]
    return bytes(data)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_impossible_sizes_of_members_are_errors(
    fetch_it: FetchIt, texts: Path, kind: bytes
) -> None:
    """A negative size made tarfile loop forever; a name of gigabytes would fill the memory."""
    sizes = [b"\xff" * 11 + b"\x00"]
    if kind != tarfile.REGTYPE:
        sizes.append(b"%011o" % (1 << 32))
    for size in sizes:
        (texts / "a.tar").write_bytes(header(size, kind) + bytes(10_240))
        with pytest.raises(ValueError, match=r"^a\.tar is corrupt or cut short: a (member|header)"):
            fetch_it(path=str(texts))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.xz", "a.tar.zst", "a.txt.bz2"])
@pytest.mark.parametrize("member", ["a.txt", "skipped.md"])
def test_an_archive_that_unpacks_to_too_much_is_refused(
    fetch_it: FetchIt, texts: Path, name: str, member: str
) -> None:
    data = b" " * 20_000_000
    if ".tar" in name:
        data = tarred([(member, data), ("b.txt", b"b")])
    (texts / name).write_bytes(COMPRESS[Path(name).suffix](data))
    with pytest.raises(ValueError, match=r"unpacks to more than download\.max_bytes = 5,000,000 "):
        fetch_it(path=str(texts), max_bytes=5_000_000)


def test_a_member_without_a_name_is_not_read(documents: Documents, texts: Path) -> None:
    """`zipfile` can't tell whether it is a folder."""
    data = zipped([("a.txt", b"a text"), ("b.txt", b"nobody's")]).replace(b"b.txt", b"\0.txt")
    (texts / "a.zip").write_bytes(data)
    assert documents(path=str(texts / "a.zip")) == ["a text"]
