"""Text from a trained model: as it is generated, or whole with the probability of each token."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tinyllm.compute import generator
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.generation.network import for_inference
from tinyllm.generation.sampling import Generation, Sampling
from tinyllm.models.model import Model

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Completion:
    """A generated text.

    Attributes:
        text: without the prompt and without the stop string; bytes that are not UTF-8 are U+FFFD.
        tokens: ids of all generated tokens, those of a stop string included and <|endoftext|>
            excluded.
        log_probabilities: natural logarithm of each token's probability under the model, before
            temperature, filters and penalty; empty unless `scored`.
        finish_reason: "stop" if a stop string or <|endoftext|> ended the text; "length" if it has
            `max_tokens` tokens.
    """

    text: str
    tokens: list[int]
    log_probabilities: list[float]
    finish_reason: FinishReason


class TextGenerator:
    """Generates text with a model, which is prepared once; used by one caller at a time.

    A text depends on the model, its prompt, the sampling, the seed and its index among the prompts,
    not on the other prompts. As in training, a prompt follows the end of another document; an empty
    prompt starts a document.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._network = for_inference(model)

    def stream(
        self, prompts: Sequence[str], sampling: Sampling, *, seed: int, stop: Sequence[str] = ()
    ) -> Iterator[list[str]]:
        """Generate a continuation of each prompt, piece by piece.

        Args:
            stop: strings that end a text, and are not part of it.

        Yields:
            The next piece of each text, possibly empty: whole characters, and no part of a stop
            string.

        Raises:
            ValueError: a stop string is empty, or a prompt is not valid Unicode.
        """
        return self._pieces(*self._start(prompts, sampling, seed, stop))

    def complete(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        *,
        seed: int,
        stop: Sequence[str] = (),
        scored: bool = False,
    ) -> list[Completion]:
        """Generate a continuation of each prompt; the arguments are those of `stream`.

        Args:
            scored: whether to compute log-probabilities, a tenth of the time of one small text.
        """
        texts, generation = self._start(prompts, sampling, seed, stop)
        log_probabilities: list[list[float]] = [[] for _ in prompts]
        for _ in _advance(texts, generation):
            if not scored:
                continue
            for mine, value in zip(log_probabilities, generation.log_probabilities(), strict=True):
                if value is not None:
                    mine.append(value)
        return [
            Completion(text.take(), text.tokens, values, text.finish_reason(sampling.max_tokens))
            for text, values in zip(texts, log_probabilities, strict=True)
        ]

    def _start(
        self, prompts: Sequence[str], sampling: Sampling, seed: int, stop: Sequence[str]
    ) -> "tuple[list[_Text], Generation]":
        """The empty texts, and the generation of their tokens."""
        end = self.tokenizer.end_of_text
        generation = Generation(
            self._network,
            [[end, *self._encode(prompt)] for prompt in prompts],
            sampling,
            [generator(seed, f"sample {index}") for index in range(len(prompts))],
            stop=end,
        )
        return [_Text(self.tokenizer, stop) for _ in prompts], generation

    def _pieces(self, texts: "list[_Text]", generation: Generation) -> Iterator[list[str]]:
        for _ in _advance(texts, generation):
            if any(text.ready for text in texts):
                yield [text.take() for text in texts]
        if any(text.ready for text in texts):
            yield [text.take() for text in texts]

    def _encode(self, prompt: str) -> list[int]:
        try:
            return list(map(int, self.tokenizer.encode(prompt)))
        except UnicodeEncodeError as error:
            raise ValueError(
                f"prompt: character {error.start} (U+{ord(prompt[error.start]):04X}) is half of a "
                "surrogate pair, not a character"
            ) from None


@dataclass
class _Text:
    """A text that grows token by token and releases what no stop string can remove any more.

    Attributes:
        tokens: ids of all tokens.
        ready: released text that was not taken yet.
        stopped: whether a stop string ended the text.
    """

    tokenizer: Tokenizer
    stop: Sequence[str]
    tokens: list[int] = field(default_factory=list)
    ready: str = ""
    stopped: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.stop, str) or not all(self.stop):
            raise ValueError("stop: must be a list of strings, none of them empty")
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # the end of the text, which may be the beginning of a stop string

    def add(self, token: int) -> None:
        """Add a token; the bytes of an incomplete character wait for the next one."""
        self.tokens.append(token)
        self._release(self._decoder.decode(self.tokenizer.decode_bytes([token])))

    def finish(self) -> None:
        """Release everything, because no token follows."""
        if not self.stopped:
            self._release(self._decoder.decode(b"", final=True))
        if not self.stopped:
            self.ready, self._held = self.ready + self._held, ""

    def take(self) -> str:
        """The released text since the last call."""
        piece, self.ready = self.ready, ""
        return piece

    def finish_reason(self, max_tokens: int) -> FinishReason:
        """Why the text ended: with fewer tokens than allowed, <|endoftext|> came."""
        return "stop" if self.stopped or len(self.tokens) < max_tokens else "length"

    def _release(self, new: str) -> None:
        text = self._held + new
        found = [(start + len(s), start) for s in self.stop if (start := text.find(s)) >= 0]
        if found:
            # The string that is complete first, for any cut into tokens; the longest of several.
            self.stopped = True
            self.ready, self._held = self.ready + text[: min(found)[1]], ""
            return
        keep = max((_overlap(text, s) for s in self.stop), default=0)
        cut = len(text) - keep
        self.ready, self._held = self.ready + text[:cut], text[cut:]


def _advance(texts: Sequence[_Text], generation: Generation) -> Iterator[None]:
    """Add one token at a time to each text; at last release the end of each."""
    for tokens in generation:
        for index, (text, token) in enumerate(zip(texts, tokens, strict=True)):
            if token is not None:
                text.add(token)
                if text.stopped:
                    generation.end(index)
            else:  # it has ended, or has nothing to release yet
                text.finish()
        yield
    for text in texts:
        text.finish()


def _overlap(text: str, stop: str) -> int:
    """Number of characters at the end of a text that may be the beginning of a stop string."""
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
