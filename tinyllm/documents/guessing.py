"""Guess the encoding of bytes that are neither ASCII nor Unicode.

Each encoding decodes the bytes, and the text is scored as each language by how often its letters
occur. Texts that score alike are not guessed between. Measured on translated messages of programs
in 41 languages, in the encodings usual for them: of 3,453 single messages, charset-normalizer 3.5
gave wrong text for 1,368, chardet 7.7 for 272, this for none (it refused 1,072); of 696 files of
20 messages, 198, 25 and none (14).
"""

import codecs
import math
import re
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from unicodedata import category

SAMPLE = 1 << 15  # bytes
MARGIN = 5.0  # nats: the second best is 150 times less likely
RARE = math.log(1e-5)  # a character that the language does not have
STRANGE = 0.05  # share of characters that are not of the likeliest language: it is none of them
ODD = math.log(1e-3)  # letters that do not stand side by side
# Punctuation: of quotations, dashes, of Spanish, Arabic and so on.
_WORDY = (
    "\xa0\xa1\xa7\xa9\xaa\xab\xae\xb0\xb7\xba\xbb\xbf\u2013\u2014\u2018\u2019\u201a\u201c\u201d\u201e"
    "\u2022\u2026\u2039\u203a\u20ac\u2116\u060c\u061b\u061f"
)
# What stands between two letters and is none, nor a mark on one, an apostrophe, or Catalan's dot.
_INSIDE = re.compile(
    r"(?<=[^\W\d_])(?!(?<=l)\xb7l)[^\w\s\0-\x7f\u2019\u0300-\u036f\u064b-\u0652\u200c\u200d"
    r"\u0591-\u05f4\u0e30-\u0e4e](?=[^\W\d_])"
)
_CJK = re.compile(r"[\u3000-\u3002\u3008-\u3011\uff01-\uff5e\u30fb\u30fc\u2014\u2018-\u201d\u2026]")


class Language(NamedTuple):
    """The share of letters that are beyond ASCII, these by their frequency, and its encodings."""

    share: float
    letters: str
    encodings: tuple[str, ...]


WESTERN = ("cp1252", "iso8859-15", "mac_roman", "cp850", "cp437")
CENTRAL = ("cp1250", "iso8859-2", "cp852")
CYRILLIC = ("cp1251", "koi8-r", "koi8-u", "iso8859-5", "cp866", "mac_cyrillic")
BALTIC = ("cp1257", "iso8859-13")
GREEK = ("cp1253", "iso8859-7")
HEBREW = ("cp1255", "iso8859-8")
ARABIC = ("cp1256", "iso8859-6")
LANGUAGES = [
    Language(0.001, "éèêñüöáçïëâôóäåæøíú", WESTERN),  # English
    Language(0.04, "éèàêçâôûîùœëïüÿæ", WESTERN),  # French
    Language(0.03, "üäößé", WESTERN),  # German
    Language(0.03, "óíáéñúü", WESTERN),  # Spanish
    Language(0.04, "ãçáéíóêõúâàôü", WESTERN),  # Portuguese
    Language(0.03, "àéèóíòçúïü", WESTERN),  # Catalan
    Language(0.015, "àèùòìé", WESTERN),  # Italian
    Language(0.003, "ëéïöüèó", WESTERN),  # Dutch
    Language(0.05, "äöåé", WESTERN),  # Swedish, Finnish
    Language(0.03, "øåæéö", WESTERN),  # Danish, Norwegian
    Language(0.12, "ðáíþóéæúöý", WESTERN),  # Icelandic
    Language(0.06, "áéíóú", WESTERN),  # Irish
    Language(0.09, "ëç", WESTERN),  # Albanian
    Language(0.08, "łęążóśćńź", CENTRAL),  # Polish
    Language(0.14, "íáéěřýžčšůúóťďň", CENTRAL),  # Czech
    Language(0.12, "áíéýčžšťúľôňďóäĺŕ", CENTRAL),  # Slovak
    Language(0.12, "áéöóőüíúű", CENTRAL),  # Hungarian
    Language(0.07, "ăîșțşţâ", CENTRAL),  # Romanian
    Language(0.04, "čšžćđ", CENTRAL),  # Croatian, Slovenian
    Language(0.13, "ıüşçğöİâî", ("cp1254",)),  # Turkish
    Language(0.08, "ėšųžįčąūę", BALTIC),  # Lithuanian
    Language(0.1, "āīēšūņļķžģčōŗ", BALTIC),  # Latvian
    Language(0.06, "äõüöšž", (*BALTIC, *WESTERN)),  # Estonian
    Language(0.03, "ĉŝĝŭĵĥ", ("iso8859-3",)),  # Esperanto
    Language(0.01, "âôŵêîŷûïëá", ("iso8859-14",)),  # Welsh
    Language(0.25, "đ\u0301ư\u0300ôơâ\u0323ê\u0309ă\u0303íáàéóúùèòìý", ("cp1258",)),  # Vietnamese
    Language(0.98, "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё", CYRILLIC),  # Russian
    Language(0.98, "оанивітерслкудмпязьбгчйхжцїюєшщфґ", CYRILLIC),  # Ukrainian
    Language(0.98, "анеіродктлмвсцпуяыьзгбчйхжшюэўёф", CYRILLIC),  # Belarusian
    Language(0.98, "аоиентрсвлдкпмгзубъщцчхйяжюшфь", CYRILLIC),  # Bulgarian
    Language(0.98, "аоиенрјтсвукдмлпзгбчжшцњљћхђфџ", CYRILLIC),  # Serbian
    Language(0.98, "αοιετσνηυρκπλμςωίόέήάγδύώθχφβξζψϊϋΐΰ", GREEK),  # Greek
    Language(0.98, "יוהלאתרמשבנםעקדחפכטגסןצזךףץ", HEBREW),  # Hebrew
    Language(0.98, "اليمنترويبدعهفقةسكحجأشىصطضخإغءذزظثئؤآ", ARABIC),  # Arabic
    Language(0.98, "اينردهمتوسبشکكخزفگحعلپقجچصطءغآضذظثژئأي", ARABIC),  # Persian
    Language(0.98, "านรอก่เง้มยัลวดทสตะปบิคีหแขจไพชใุ็โผซูถึ์ำืฟธณญศภษฐๆ", ("cp874",)),  # Thai
]
# The first of those that give the same text is named.
ONE_BYTE = (
    *WESTERN, *CENTRAL, *CYRILLIC, *GREEK, "cp1254", *HEBREW, *ARABIC, *BALTIC, "cp874", "cp1258",
    "iso8859-3", "iso8859-14",
)  # fmt: skip
# In nats, what those used seldom are less likely. The letters of cp1258 fit many languages.
SELDOM = {
    "mac_roman": 4, "mac_cyrillic": 4, "cp437": 4, "cp850": 4, "cp852": 4, "iso8859-3": 4,
    "iso8859-14": 4, "cp1258": 12,
}  # fmt: skip
# Two bytes: the encoding by which its usual characters are known, and their first bytes.
TWO_BYTES = {
    "gb18030": ("gb2312", 0xB0, 0xD7),
    "big5": ("big5", 0xA4, 0xC6),
    "cp932": ("euc_jp", 0xB0, 0xCF),
    "euc_jp": ("euc_jp", 0xB0, 0xCF),
    "cp949": ("euc_kr", 0xB0, 0xC8),
}


def guesses(data: bytes) -> list[str]:
    """The encodings that bytes may be in: one if there is enough evidence; none: nothing fits."""
    first = next((at for at, byte in enumerate(data) if byte > 127), 0)
    begin = max(0, first - SAMPLE // 2)
    sample = data[data.rfind(b"\n", 0, begin) + 1 if begin else 0 :][:SAMPLE]
    sample = b" ".join(dict.fromkeys(sample.split()))  # what is repeated is no more evidence
    found: dict[str, tuple[float, float, str]] = {}  # by text
    for encoding in (*ONE_BYTE, *TWO_BYTES):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(sample)
        except UnicodeDecodeError:
            continue
        if text not in found:
            found[text] = (*_score(text, encoding), encoding)
    ranked = sorted(found.values(), key=lambda one: -one[0])
    if not ranked or ranked[0][1] > STRANGE:
        return []
    return [encoding for score, _, encoding in ranked if score > ranked[0][0] - MARGIN][:4]


def _score(text: str, encoding: str) -> tuple[float, float]:
    """The log likelihood of a text, and the share of its characters that no language has."""
    counts = Counter(text)
    ascii = sum(n for c, n in counts.items() if c.isascii() and c.isalpha())
    beyond = {c: n for c, n in counts.items() if not c.isascii()}
    if encoding in TWO_BYTES:
        score, strange = _as_east_asian(beyond, encoding, ascii)
    else:
        pairs = {
            pair: count
            for pair, count in Counter(map("".join, pairwise(text))).items()
            if not pair.isascii() and all(category(c)[0] in "LM" for c in pair)
        }
        mixed = sum(n for pair, n in pairs.items() if pair[0].isascii() or pair[1].isascii())
        score, strange = max(
            _as_language(beyond, index, ascii, mixed)
            for index, language in enumerate(LANGUAGES)
            if encoding in language.encodings
        )
        broken = sum(n for pair, n in pairs.items() if pair[0].islower() and pair[1].isupper())
        broken += len(_INSIDE.findall(text))
        score += broken * ODD - SELDOM.get(encoding, 0)
        strange += broken
    return score, strange / max(1, sum(beyond.values()))


@cache
def _likelihood(index: int) -> dict[str, float]:
    share, letters, _ = LANGUAGES[index]
    flat = 10 if share > 0.5 else 0  # frequencies in whole alphabets fall less steeply
    weights = [1 / (rank + flat) for rank in range(1, len(letters) + 1)]
    known = {
        letter: math.log(0.9 * share * weight / sum(weights))
        for letter, weight in zip(letters, weights, strict=True)
    }
    return {c: math.log(0.005) for c in _WORDY} | known


def _as_language(beyond: dict[str, int], index: int, ascii: int, mixed: int) -> tuple[float, float]:
    known, strange, share = _likelihood(index), 0.0, LANGUAGES[index].share
    if share > 0.5:  # of another script: words may be in ASCII, but not parts of words
        score = ascii * math.log(0.9) + mixed * ODD
        strange += mixed / 2
    else:
        score = ascii * math.log(1 - share)
    for character, count in beyond.items():
        one = known.get(character) or known.get(character.lower())
        score += count * (RARE if one is None else one)
        strange += 0 if one else count
    return score, strange


def _as_east_asian(beyond: dict[str, int], encoding: str, ascii: int) -> tuple[float, float]:
    reference, low, high = TWO_BYTES[encoding]
    score, strange = ascii * math.log(0.8), 0.0
    for character, count in beyond.items():
        lead = character.encode(reference, "ignore")[:1]
        if _CJK.match(character):
            each = 1 / 100
        elif reference == "euc_jp" and "\u3041" <= character <= "\u30f6":
            each = 1 / 120
        elif lead and low <= lead[0] <= high:
            each = 1 / 500 if reference == "euc_kr" else 1 / 1500
        else:
            each = 1e-7
            # A twentieth of a text is less usual characters, as a rule; noise has most of it so.
            strange += count * (0.15 if lead and lead[0] >= 0xA1 else 1)
        score += count * math.log(each)
    return score, strange
