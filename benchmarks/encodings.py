"""Measure how often `download.encoding: auto` and its libraries decode short texts wrongly.

python -m benchmarks.encodings [--locale /usr/share/locale]

The texts are messages of programs in 23 languages, from the translations on a Linux system, in the
usual encodings of each language: single messages, and 20 at once.
"""

import argparse
import gettext
import random
from collections import Counter, defaultdict
from pathlib import Path

import chardet
from charset_normalizer import from_bytes

from tinyllm.data.readers.guessing import USUAL, guesses

ENCODINGS = {
    "fr": "cp1252 iso8859-15", "de": "cp1252", "es": "cp1252", "pt_BR": "cp1252", "it": "cp1252",
    "nl": "cp1252", "sv": "cp1252", "da": "cp1252", "pl": "cp1250 iso8859-2",
    "cs": "cp1250 iso8859-2", "hu": "cp1250 iso8859-2", "ro": "cp1250",
    "ru": "cp1251 koi8-r cp866", "uk": "cp1251 koi8-u", "el": "cp1253", "tr": "cp1254",
    "ja": "cp932 euc_jp", "zh_CN": "gb18030", "zh_TW": "big5", "ko": "cp949", "vi": "cp1258",
    "he": "cp1255", "ar": "cp1256",
}  # fmt: skip
SAMPLES = {1: 12, 20: 5}  # messages in a text: texts of each language and encoding


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--locale", type=Path, default=Path("/usr/share/locale"))
    args = parser.parse_args()
    found: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    chance = random.Random(1)
    for language, encodings in ENCODINGS.items():
        texts = messages(args.locale / language)
        for encoding in encodings.split() if len(texts) >= max(SAMPLES) else ():
            for size, count in SAMPLES.items():
                for _ in range(count):
                    judge("\n".join(chance.sample(texts, size)), encoding, size, found)
    print("| messages | decided by | texts | wrong | undecided |\n|---|---|---|---|---|")
    for (size, name), counts in sorted(found.items()):
        print(f"| {size} | {name} | {counts.total()} | {counts['wrong']} | {counts['undecided']} |")


def messages(folder: Path) -> list[str]:
    """The longer messages in a language that are not ASCII."""
    found = []
    for path in sorted(folder.glob("LC_MESSAGES/*.mo")):
        with path.open("rb") as file:
            try:
                catalogue = vars(gettext.GNUTranslations(file))["_catalog"]
            except UnicodeDecodeError:  # a catalogue with a wrong encoding in its header
                continue
        found += [text for key, text in catalogue.items() if key and isinstance(text, str)]
    return [text for text in found if len(text) > 40 and not text.isascii()]


def judge(text: str, encoding: str, size: int, found: dict[tuple[int, str], Counter[str]]) -> None:
    """Count each method's result for a text in an encoding."""
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:  # the encoding lacks a character, such as a quotation mark
        return
    best, both = from_bytes(data, cp_isolation=USUAL).best(), guesses(data)
    names = {
        "charset-normalizer": best.encoding if best else None,
        "chardet": chardet.detect(data)["encoding"],
        "both": both[0] if len(both) == 1 else None,
    }
    for name, guess in names.items():
        right = guess is not None and data.decode(guess, "replace") == text
        outcome = "undecided" if guess is None else "right" if right else "wrong"
        found[size, name][outcome] += 1


if __name__ == "__main__":
    main()
