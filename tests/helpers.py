"""Small documents, settings and models for tests."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tinyllm.data.readers.documents import Piece
from tinyllm.data.readers.raw_folder import read_pieces
from tinyllm.data.split_rule import SPLITS, ContentHash, split_codes
from tinyllm.data.token_store import Tokens, TokenTotals
from tinyllm.data.tokenize.batches import Corpus
from tinyllm.data.tokenize.encode import encode_corpus
from tinyllm.data.tokenize.survey import Survey, survey
from tinyllm.data.tokenize.workers import Workers
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation.scores import Scores, Windows, make_windows
from tinyllm.models.config import ModelConfig
from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.load import load_params
from tinyllm.settings.split import Split
from tinyllm.settings.train import Train
from tinyllm.training.state import TrainState

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Arithmetic:
    """How the network is computed.

    Attributes:
        precision: as in `hardware.precision`.
        plain: whether to use the plain formulas, as on a GPU, instead of the CPU kernels.
    """

    precision: str
    plain: bool

    @property
    def dtype(self) -> torch.dtype:
        """The type of activations."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def rounding(self) -> float:
        """The relative error of logits and gradients: 8 bits in bf16, dozens of operations."""
        return 0.03 if self.precision == "bf16" else 1e-5

    def __str__(self) -> str:
        return f"{self.precision}-plain" if self.plain else self.precision


ARITHMETICS = [Arithmetic(p, plain) for p in ("fp32", "bf16") for plain in (False, True)]
EXACT = [arithmetic for arithmetic in ARITHMETICS if arithmetic.precision == "fp32"]
# Defaults of the models that tests make; the fixtures `arithmetic` and `architecture` set them.
DTYPE = torch.float32
ARCHITECTURE = "qwen3"
SPLIT = Split(validation_fraction=0.1, test_fraction=0.1, near_duplicates=1_000_000)

_SYLLABLES = re.findall("..", "bacedifoguhajekilomunaperisotuvawexiyozu")
# Characters of many scripts and kinds: letters with and without case, digits, marks, white space,
# control characters, emoji with joiners and variation selectors, private use, outside the BMP.
ALPHABET = [chr(code) for code in [*range(0x180), *range(0x370, 0x400), *range(0x590, 0x5B0)]]
ALPHABET += "\u1680\u180e\u2000\u2003\u2009\u200b\u200d\u2028\u2029\u202f\u205f\u3000\ufeff\ufe0f"
ALPHABET += "日本語한국어ไทยहिन्दी①½Ⅷ٣৪\u0301\u0308\ue000\ufffd\uffff"
ALPHABET += "😀👩🏽‍🚀🇫🇷❤️\U0001d518\U0001d7d8\U0001f9d1\U0002070e\U000e0041\U0010ffff"
WORDS = ["the", " and", " of", "ing", "  ", "\n", "\r\n", "\n\n", "'ll", "'S", "2024", " 3.14"]


def make_documents(count: int, seed: int, prefix: str = "") -> list[str]:
    """Documents of made-up words, which repeat often enough to train a tokenizer."""
    chance = random.Random(seed)
    words = ["".join(chance.choices(_SYLLABLES, k=chance.randint(1, 3))) for _ in range(200)]
    documents = []
    for _ in range(count):
        lines = [
            " ".join(chance.choices(words, k=chance.randint(3, 9))).capitalize() + "."
            for _ in range(chance.randint(1, 4))
        ]
        documents.append(prefix + "\n".join(lines))
    return documents


def corpus_of(documents: Sequence[str]) -> Corpus:
    """Documents as a corpus that can be opened repeatedly."""
    return lambda: (Piece(text, True) for text in documents)


def encode(
    corpus: Corpus, tokenizer: Tokenizer, root: Path, split: Split = SPLIT, workers: int = 0
) -> tuple[Survey, TokenTotals]:
    """Survey and encode a corpus; the tokens are in `tokens`, the tokenizer in `tokenizer`."""
    for name in ("notes", "tokens"):
        (root / name).mkdir(parents=True)
    tokenizer.save(root / "tokenizer")
    with Workers(workers) as pool:
        found = survey(corpus, split, root / "notes", pool)
        totals = encode_corpus(corpus, found, root / "tokenizer", root / "tokens", pool)
    return found, totals


def read_documents(folder: Path) -> list[str]:
    """The text of each document of a raw folder, in order, without empty ones."""
    documents = [""]
    for piece in read_pieces(folder):
        documents[-1] += piece.text
        if piece.last:
            documents.append("")
    return documents[:-1]


def content_hash(text: str) -> int:
    """64-bit hash of a text's normalised content."""
    content = ContentHash()
    content.update(text)
    return content.value


def split_of(text: str, settings: Split) -> str:
    """The split of a document that has no near-duplicates."""
    hashes = np.array([content_hash(text)], dtype=np.uint64)
    return SPLITS[split_codes(hashes, settings)[0]]


AWKWARD = [
    "",
    " ",
    "\n",
    " \n \r\n\t \n",
    "a  b   c    ",
    "".join(map(chr, range(256))),  # as UTF-8, every Latin-1 character
    "".join(map(chr, range(32))) * 3,
    "\x00\x7f\x80\x9f\xad\ufeff\u200b\u2028\u2029",
    "👩🏽‍🚀🇫🇷❤️😀 e\u0301 \U0010ffff \uffff",
    "日本語 हिन्दी العربية ไทย",
    "it's IT'S we'LL 'Twas ''ll",
    "1 12 123 1234567890 ½ ٣ Ⅷ",
    "def f(x):\n    return x**2  # !?\n\n\n\n\tpass",
    "x" * 5000,
    " " * 5000,
    "\n" * 5000,
    "ab" * 3000 + "!" * 3000,
]


def random_text(chance: random.Random, longest: int = 40) -> str:
    """Text of any characters that UTF-8 can encode."""
    pieces = ALPHABET if chance.random() < 0.5 else WORDS + ALPHABET[32:127]
    return "".join(chance.choices(pieces, k=chance.randint(0, longest)))


def many_texts(count: int) -> list[str]:
    """Awkward texts, and `count` random ones."""
    chance = random.Random(5)
    return [*AWKWARD, *(random_text(chance, 60) for _ in range(count))]


def train_settings(**changes: Any) -> Train:
    """The training section of params.yaml, reduced and changed; validated like the original."""
    small = {
        "architecture": ARCHITECTURE, "n_kv_head": None, "tie_embeddings": False,
        "n_layer": 2, "n_head": 2, "d_model": 32, "context_length": 16, "dropout": 0.0,
        "batch_size": 8, "micro_batch_size": None, "optimizer": "adamw", "betas": [0.9, 0.95],
        "momentum": 0.9, "weight_decay": 0.1, "grad_clip": 1.0, "max_steps": 12,
        "schedule": "cosine", "cooldown_fraction": 0.2, "learning_rate": 0.01,
        "min_learning_rate": 0.0, "embedding_rate_multiplier": 1.0,
        "warmup_steps": 2, "decay_steps": None, "eval_interval": 4,
        "eval_tokens": None, "patience": None, "save": "last",
    }  # fmt: skip
    section = load_params(ROOT / "params.yaml").train.model_dump()
    return Train.model_validate(section | small | changes)


def tiny_config(**changes: Any) -> ModelConfig:
    """The shape of a model that computes in milliseconds."""
    shape: dict[str, Any] = {
        "architecture": ARCHITECTURE, "vocab_size": 61, "context_length": 16, "n_layer": 2,
        "n_head": 2, "d_model": 32,
    } | changes  # fmt: skip
    return ModelConfig(**({"n_kv_head": shape["n_head"]} | shape))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def random_model(config: ModelConfig | None = None, seed: int = 1) -> Model:
    """A model in evaluation mode in which every weight matters, as after training.

    Some initial weights are zero, so that whole layers would have no effect.
    """
    model = TinyLLM(config or tiny_config(), generator(seed))
    model.compute_dtype = DTYPE
    chance = generator(seed + 1000)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            parameter.normal_(std=parameter.size(-1) ** -0.5, generator=chance)
        else:  # a norm's
            parameter.normal_(mean=1.0, std=0.3, generator=chance)
    return model.eval()


def random_ids(*shape: int, seed: int = 0, vocab_size: int = 61) -> torch.Tensor:
    return torch.randint(vocab_size, shape, generator=generator(seed))


def markov_tokens(count: int, seed: int = 0, vocab_size: int = 61) -> Tokens:
    """Ids that mostly depend on the previous one, so that a model can learn them."""
    chance = np.random.default_rng(seed)
    ids = [0]
    for jump in chance.random(count - 1) < 0.1:
        ids.append(int(chance.integers(vocab_size)) if jump else (ids[-1] * 3 + 7) % vocab_size)
    return np.array(ids, dtype=np.uint16)


def windows_of(tokens: Tokens, context_length: int = 16, vocab_size: int = 61) -> Windows:
    """Windows for scoring all tokens, as if each id were one byte."""
    sizes = np.ones(vocab_size, dtype=np.int64)
    return make_windows(tokens, sizes, vocab_size - 1, context_length)


def assert_same_weights(a: Model, b: Model) -> None:
    """Every weight has the same bits."""
    theirs = b.state_dict()
    for name, weight in a.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


class Recorder:
    """A watcher and saver of training that only records its calls."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.evaluations: list[tuple[int, dict[str, Scores], bool]] = []

    def step(self, step: int, values: dict[str, float]) -> None:
        self.steps.append((step, values))

    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None:
        self.evaluations.append((step, scores, best))

    def between_steps(self, state: TrainState) -> None:
        pass


def flip_bit(path: Path, offset: int) -> None:
    """Flip one bit of a file; a negative offset counts from its end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)
