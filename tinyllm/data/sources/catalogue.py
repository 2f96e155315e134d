"""The corpora that `download.source` knows by name; this file alone describes them.

To add a corpus, add an entry. Give its SHA-256 if it is known; without one, any bytes from the
address are accepted, and the manifest records their SHA-256.
"""

import difflib
from dataclasses import dataclass, field

from tinyllm.data.readers.layout import Layout

OWN = ("url", "path")  # sources outside the catalogue: the user's own text
PACKAGES = "docstrings"  # the only source that needs no network
HUB = "https://huggingface.co/datasets"


@dataclass(frozen=True)
class Address:
    """The address of a file, and its SHA-256 in hex; None: unknown."""

    url: str
    sha256: str | None = None


@dataclass(frozen=True)
class Entry:
    """A corpus.

    Attributes:
        about: Description with its size.
        licence: Licence of the text.
        addresses: Addresses of its files, in reading order.
        layout: How its documents are stored in the files.
    """

    about: str
    licence: str
    addresses: tuple[Address, ...] = ()
    layout: Layout = field(default_factory=Layout)


def _wikitext(name: str, sha256: str, size: str) -> Entry:
    return Entry(
        about=f"{name}, raw: good and featured articles of Wikipedia, {size}; "
        "an article begins at its title, as in ' = Title = '",
        licence="CC BY-SA 3.0, GFDL",
        addresses=(Address(f"https://wikitext.smerity.com/{name}-raw-v1.zip", sha256),),
        layout=Layout(format="text", files="**/*.raw", document_start=r" = [^=].* = $"),
    )


CATALOGUE: dict[str, Entry] = {
    PACKAGES: Entry(
        about="docstrings of the installed packages that download.packages names",
        licence="of each package",
        layout=Layout(format="jsonl"),
    ),
    "tinyshakespeare": Entry(
        about="40,000 lines of Shakespeare's plays, 1.1 MB, one document",
        licence="public domain",
        addresses=(
            Address(
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            ),
        ),
        layout=Layout(format="text"),
    ),
    "tinystories": Entry(
        about="TinyStories, the part that GPT-4 wrote: 2.7 million stories of few words, 2.2 GB; "
        "<|endoftext|> between stories; https://arxiv.org/abs/2305.07759",
        licence="CDLA-Sharing-1.0",
        addresses=(
            Address(f"{HUB}/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-train.txt"),
            Address(f"{HUB}/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-valid.txt"),
        ),
        layout=Layout(format="text", separator="<|endoftext|>"),
    ),
    "wikitext": _wikitext(
        "wikitext-103",
        "91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
        "192 MB of zip, 550 MB of text",
    ),
    "wikitext-2": _wikitext(
        "wikitext-2",
        "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
        "5 MB of zip, 13 MB of text",
    ),
    "simplewiki": Entry(
        about="Simple English Wikipedia of 1 November 2023, 157 MB of Parquet; one article per row",
        licence="CC BY-SA 3.0, GFDL",
        addresses=(
            Address(
                f"{HUB}/wikimedia/wikipedia/resolve/cf26be8eef6bc935da5d2281be5aad4813e49e90/"
                "20231101.simple/train-00000-of-00001.parquet",
                "31bded16768a47c286becd292079122f5d7d4397a17b87d4250a00ccd581e6f0",
            ),
        ),
        layout=Layout(format="parquet"),
    ),
    "enwik8": Entry(
        about="the first 100 MB of Wikipedia's XML of 2006, one document: a compression benchmark",
        licence="GFDL",
        addresses=(
            Address(
                "http://mattmahoney.net/dc/enwik8.zip",
                "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
            ),
        ),
        layout=Layout(format="text"),
    ),
    "openwebtext": Entry(
        about="a sample of OpenWebText, about 12 GB of text; <|endoftext|> between pages",
        licence="CC0 for the collection; the pages are their authors'",
        addresses=(Address(f"{HUB}/stanford-cs336/owt-sample/resolve/main/owt_train.txt.gz"),),
        layout=Layout(format="text", separator="<|endoftext|>"),
    ),
    "c4": Entry(
        about="C4, English, the first of its 1,024 files: 356,000 pages, 320 MB of gzip",
        licence="ODC-By 1.0",
        addresses=(Address(f"{HUB}/allenai/c4/resolve/main/en/c4-train.00000-of-01024.json.gz"),),
        layout=Layout(format="jsonl"),
    ),
    "fineweb-edu": Entry(
        about="FineWeb-Edu, the first file of its sample of ten billion tokens: 2.2 GB of Parquet; "
        "one page per row",
        licence="ODC-By 1.0",
        addresses=(
            Address(f"{HUB}/HuggingFaceFW/fineweb-edu/resolve/main/sample/10BT/000_00000.parquet"),
        ),
        layout=Layout(format="parquet"),
    ),
}


def check_source(name: str) -> None:
    """Check that a source exists.

    Raises:
        ValueError: It does not; the message lists all sources and names the closest one.
    """
    names = [*CATALOGUE, *OWN]
    if name in names:
        return
    nearest = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    raise ValueError(f"must be one of {', '.join(names)}{hint}")
