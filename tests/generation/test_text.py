"""Text from a model: streamed in whole characters, ended by stop strings, the same in a batch."""

import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import EXACT, ROOT, random_model, tiny_config
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.generation import text
from tinyllm.generation.network import Recomputing, Seen
from tinyllm.generation.sampling import Sampling
from tinyllm.generation.text import Completion, TextGenerator
from tinyllm.models.config import ModelConfig
from tinyllm.models.folder import save_model
from tinyllm.models.model import Model

ODD = "naïve 日本語 😀👩🏽‍🚀 end"
WILD = [
    Sampling(40),
    Sampling(40, 0.8, 20, 0.9),
    Sampling(40, 1.5, min_p=0.02, repetition_penalty=1.3),
]


@dataclass
class Reciter:
    """A network that recites some tokens after the prompt, which is <|endoftext|> only."""

    config: ModelConfig
    tokens: Sequence[int]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def new_cache(self, batch_size: int) -> Seen:
        return Seen(torch.zeros(batch_size, 0, dtype=torch.int64))

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError  # only scoring calls it

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def next_logits(self, tokens: Sequence[Sequence[int]], cache: Seen) -> torch.Tensor:
        cache.tokens = torch.cat((cache.tokens, torch.tensor(tokens)), dim=1)
        recited = torch.full((len(tokens),), self.tokens[cache.length - 1])
        return torch.nn.functional.one_hot(recited, self.config.vocab_size).float() * 100


@pytest.fixture
def model(tokenizer: Tokenizer) -> Model:
    return random_model(tiny_config(vocab_size=tokenizer.vocab_size))


def reciting(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, model: Model, tokens: Sequence[int]
) -> TextGenerator:
    config = tiny_config(vocab_size=tokenizer.vocab_size, context_length=1000)
    monkeypatch.setattr(text, "for_inference", lambda _: Reciter(config, tokens))
    return TextGenerator(model, tokenizer)


def by_bytes(tokenizer: Tokenizer, content: str) -> list[int]:
    """A token for each byte, and the end of the document."""
    ranks = tokenizer.encoding._mergeable_ranks
    return [*(ranks[bytes([byte])] for byte in content.encode()), tokenizer.end_of_text]


def merged(tokenizer: Tokenizer, content: str) -> list[int]:
    return [*map(int, tokenizer.encode(content)), tokenizer.end_of_text]


def streamed(pieces: Iterator[list[str]]) -> list[list[str]]:
    """The pieces of each text that are not empty."""
    return [list(filter(None, column)) for column in zip(*pieces, strict=True)]


def test_a_character_is_never_split(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, model: Model
) -> None:
    generator = reciting(tokenizer, monkeypatch, model, by_bytes(tokenizer, ODD))
    (pieces,) = streamed(generator.stream([""], Sampling(200, 0), seed=1))
    assert pieces == list(ODD)


def test_an_unfinished_character_at_the_end_is_replaced(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, model: Model
) -> None:
    generator = reciting(tokenizer, monkeypatch, model, by_bytes(tokenizer, "a😀"))
    (pieces,) = streamed(generator.stream([""], Sampling(4, 0), seed=1))
    assert pieces == ["a", "\ufffd"]


@pytest.mark.parametrize("tokens", [by_bytes, merged])
@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (["na"], "ba"),
        (["ban"], ""),
        (["nana", "an"], "b"),  # the first to be complete
        (["an", "ban"], ""),  # of several, the longest
        (["ana b", "a b"], "b"),
        (["na ba"], "ba"),
        (["banana?", "!"], "bana banana"),
        (["missing", "banana!?"], "bana banana!"),
    ],
)
def test_a_stop_string_ends_the_text_wherever_tokens_begin(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, model: Model, tokens: Any,
    stop: list[str], expected: str,
) -> None:  # fmt: skip
    recited = "bana banana!"
    assert expected == reference(recited, stop)
    generator = reciting(tokenizer, monkeypatch, model, tokens(tokenizer, recited))
    (found,) = generator.complete([""], Sampling(100, 0), seed=1, stop=stop)
    assert (found.text, found.finish_reason) == (expected, "stop")
    pieces = streamed(generator.stream([""], Sampling(100, 0), seed=1, stop=stop))
    assert "".join(pieces[0] if pieces else "") == expected


def reference(content: str, stop: Sequence[str]) -> str:
    """The text before the stop string that is complete first."""
    for end in range(len(content) + 1):
        for each in sorted(stop, key=len, reverse=True):
            if content[:end].endswith(each):
                return content[: end - len(each)]
    return content


def test_random_stop_strings_end_random_texts_at_the_same_place(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, model: Model
) -> None:
    chance = random.Random(3)
    for _ in range(150):
        recited = "".join(chance.choices("abé", k=25))
        stop = ["".join(chance.choices("abé", k=chance.randint(1, 6))) for _ in range(3)]
        generator = reciting(tokenizer, monkeypatch, model, merged(tokenizer, recited))
        (found,) = generator.complete([""], Sampling(100, 0), seed=1, stop=stop)
        assert found.text == reference(recited, stop), (recited, stop)


def test_a_piece_waits_only_while_a_stop_string_may_follow(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, model: Model
) -> None:
    generator = reciting(tokenizer, monkeypatch, model, by_bytes(tokenizer, "x\n\ny\nz\n"))
    (pieces,) = streamed(generator.stream([""], Sampling(100, 0), seed=1, stop=["\n\n\n"]))
    assert pieces == ["x", "\n\ny", "\nz", "\n"]


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("arithmetic", EXACT, ids=str, indirect=True)
@pytest.mark.parametrize("sampling", WILD, ids=["plain", "top", "min-p"])
def test_a_text_is_the_same_alone_in_a_batch_and_without_the_cache(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, sampling: Sampling
) -> None:
    model = random_model(tiny_config(vocab_size=tokenizer.vocab_size, context_length=64))
    prompts = ["", "Some text to begin with. ", "", "ab"]
    generator = TextGenerator(model, tokenizer)
    whole = (each.text for each in generator.complete(prompts, sampling, seed=5))
    stop = [max(whole, key=len)[20:23]]
    together = texts(generator.complete(prompts, sampling, seed=5, stop=stop))
    assert len({len(tokens) for _, tokens, _ in together}) > 1  # some end early
    assert together[0] != together[2]  # the same prompt, but another index
    for count in (1, 2, 3):
        fewer = generator.complete(prompts[:count], sampling, seed=5, stop=stop)
        assert texts(fewer) == together[:count]
    monkeypatch.setattr(text, "for_inference", Recomputing)
    slow = TextGenerator(model, tokenizer).complete(prompts, sampling, seed=5, stop=stop)
    assert texts(slow) == together


def texts(completions: list[Completion]) -> list[tuple[str, list[int], str]]:
    return [(each.text, each.tokens, each.finish_reason) for each in completions]


def test_pieces_add_up_to_the_whole_text(tokenizer: Tokenizer, model: Model) -> None:
    generator, prompts = TextGenerator(model, tokenizer), ["", "one two", "x"]
    for stop in ([], ["e"], ["\ufffd\ufffd", "a"]):
        whole = generator.complete(prompts, Sampling(60), seed=3, stop=stop)
        pieces = generator.stream(prompts, Sampling(60), seed=3, stop=stop)
        assert ["".join(each) for each in streamed(pieces)] == [each.text for each in whole]
        if not stop:
            assert [each.text for each in whole] == [tokenizer.decode(w.tokens) for w in whole]


def test_a_seed_gives_the_same_text_again(tokenizer: Tokenizer, model: Model) -> None:
    generator = TextGenerator(model, tokenizer)
    one, two = (generator.complete(["ab"], Sampling(30), seed=seed) for seed in (1, 2))
    assert generator.complete(["ab"], Sampling(30), seed=1) == one != two


def test_log_probabilities_are_the_models(tokenizer: Tokenizer, model: Model) -> None:
    """Before temperature, filters and penalty."""
    generator, prompt = TextGenerator(model, tokenizer), "ab c"
    sampling = Sampling(8, 0.5, 5, 0.9, 0.01, 1.2)
    for prompts in ([prompt], [prompt, "", "a longer one"]):
        found = generator.complete(prompts, sampling, seed=1, scored=True)[0]
        begin = [tokenizer.end_of_text, *map(int, tokenizer.encode(prompt))]
        with torch.no_grad():
            logits = model(torch.tensor([[*begin, *found.tokens]]))[0]
        expected = logits[len(begin) - 1 : -1].log_softmax(-1)
        expected = expected.gather(1, torch.tensor(found.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(found.log_probabilities), expected)


def test_a_text_ends_at_its_length_or_at_the_end_of_its_document(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, model: Model
) -> None:
    generator = reciting(tokenizer, monkeypatch, model, by_bytes(tokenizer, "abc"))
    found = {}
    for count in (2, 3, 4):
        (completion,) = generator.complete([""], Sampling(count, 0), seed=1)
        found[count] = completion.text, completion.finish_reason
    assert found == {2: ("ab", "length"), 3: ("abc", "length"), 4: ("abc", "stop")}


def test_wrong_arguments_are_errors_at_once(tokenizer: Tokenizer, model: Model) -> None:
    generator = TextGenerator(model, tokenizer)
    with pytest.raises(ValueError, match="stop: must be a list of strings, none of them empty"):
        generator.stream([""], Sampling(1), seed=1, stop=["a", ""])
    with pytest.raises(ValueError, match=r"character 1 \(U\+DC80\) is half of a surrogate pair"):
        generator.stream(["a\udc80"], Sampling(1), seed=1)
    with pytest.raises(ValueError, match=r"temperature = -1: .*\ntop_p = 0: must be above 0"):
        Sampling(1, -1, top_p=0)


def test_no_prompts_give_no_texts(tokenizer: Tokenizer, model: Model) -> None:
    generator = TextGenerator(model, tokenizer)
    assert generator.complete([], Sampling(1), seed=1) == []
    assert list(generator.stream([], Sampling(1), seed=1)) == []


GENERATE = """
import sys
from pathlib import Path
from tinyllm.generation.sampling import Sampling
from tinyllm.generation.text import TextGenerator
from tinyllm.models.folder import load_model
TextGenerator(*load_model(Path(sys.argv[1]))).complete(["Return"], Sampling(1), seed=1)
sys.exit("torch._dynamo" in sys.modules)
"""


def test_the_first_token_does_not_wait_for_torchs_compiler(
    tokenizer: Tokenizer, model: Model, tmp_path: Path
) -> None:
    """Importing it takes as long as importing torch."""
    save_model(tmp_path / "model", model, tokenizer)
    command = [sys.executable, "-c", GENERATE, str(tmp_path / "model")]
    subprocess.run(command, cwd=ROOT, check=True)
