"""A model's score counts each token once, for any windows and batches."""

import math
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.helpers import Arithmetic, markov_tokens, random_model, tiny_config, windows_of
from tinyllm.evaluation.scores import Scores, Windows, make_windows, score
from tinyllm.models.config import IGNORE
from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM

END = 9_999
COUNTS = [1, 2, 7, 16, 17, 31, 32, 33, 100, 257]
SHAPES = [
    (T, stride) for T in (2, 3, 16) for stride in (None, 1, 2, 5, 15, 16) if (stride or 1) <= T
]


def numbered(count: int) -> np.ndarray:
    """Tokens that are all different, so that each can be identified."""
    return np.arange(count, dtype=np.uint16)


def windows_over(
    count: int, context_length: int, stride: int | None, limit: int | None = None
) -> Windows:
    sizes = np.arange(END + 1) + 1  # size of each token in bytes
    return make_windows(numbered(count), sizes, END, context_length, stride=stride, limit=limit)


# ----- windows


@pytest.mark.parametrize(("context_length", "stride"), SHAPES)
@pytest.mark.parametrize("count", COUNTS)
def test_every_token_is_a_target_exactly_once(
    count: int, context_length: int, stride: int | None
) -> None:
    windows = windows_over(count, context_length, stride)
    counted = windows.targets[windows.targets != IGNORE]
    assert sorted(counted.tolist()) == list(range(count))
    assert windows.n_bytes == sum(range(1, count + 1))
    assert windows.inputs.shape == windows.targets.shape
    assert windows.inputs.shape[1] == context_length


@pytest.mark.parametrize(("context_length", "stride"), SHAPES)
@pytest.mark.parametrize("count", COUNTS)
def test_every_target_follows_its_input_and_has_enough_context(
    count: int, context_length: int, stride: int | None
) -> None:
    windows = windows_over(count, context_length, stride)
    for inputs, targets in zip(windows.inputs, windows.targets, strict=True):
        for place in (targets != IGNORE).nonzero().flatten().tolist():
            target = int(targets[place])
            before = [END, *range(target)][-(place + 1) :]
            assert inputs[: place + 1].tolist() == before
            assert place >= min(target, context_length - (stride or context_length))


@pytest.mark.parametrize(("limit", "stride"), [*product([1, 16, 50, 99, 100, 1000], [None, 4])])
def test_a_limit_selects_evenly_spaced_windows(limit: int, stride: int | None) -> None:
    windows = windows_over(100, 16, stride, limit)
    counted = windows.targets[windows.targets != IGNORE].tolist()
    assert len(set(counted)) == len(counted)
    assert len(counted) <= max(limit, stride or 16)
    if limit >= 100:
        assert len(counted) == 100
    elif limit >= 50:
        assert len(counted) > limit - 2 * 16
        assert min(counted) == 0 and max(counted) == 99  # from the first window to the last
    assert windows.n_bytes == sum(token + 1 for token in counted)


# ----- scores


@pytest.fixture
def near(arithmetic: Arithmetic) -> float:
    """The relative tolerance of a mean loss that differs only by rounding."""
    return 2e-6 if arithmetic.precision == "fp32" else 5e-3


def reference(model: Model, tokens: np.ndarray, stride: int) -> tuple[float, int]:
    """Nats of all tokens, and the number of right predictions, computed one token at a time."""
    context_length = model.config.context_length
    stream = torch.tensor([60, *tokens.tolist()])
    nats, right = 0.0, 0
    for target in range(1, len(stream)):
        new = (target - 1) // stride * stride  # the start of the window's new targets
        begin = max(0, new + stride - context_length)
        with torch.no_grad():
            logits = model(stream[None, begin:target])[0, -1].double()
        nats -= F.log_softmax(logits, dim=-1)[stream[target]].item()
        right += int(logits.argmax() == stream[target])
    return nats, right


@pytest.mark.parametrize("stride", [16, 7, 1])
def test_the_scores_match_scoring_token_by_token(stride: int, near: float) -> None:
    model = random_model()
    tokens = markov_tokens(75)
    sizes = np.arange(61) % 7 + 1
    scores = score(model, make_windows(tokens, sizes, 60, 16, stride=stride), batch_size=4)
    nats, right = reference(model, tokens, stride)
    assert scores.tokens == 75
    assert scores.loss == pytest.approx(nats / 75, rel=near)
    # Total bits over total bytes, not a mean of ratios.
    total = sum(int(sizes[token]) for token in tokens)
    assert scores.bits_per_byte == pytest.approx(nats / math.log(2) / total, rel=near)
    assert scores.accuracy == pytest.approx(right / 75, abs=near)


@pytest.mark.parametrize("stride", [None, 5])
def test_the_batch_size_does_not_change_the_scores(stride: int | None, near: float) -> None:
    model = random_model()
    windows = make_windows(markov_tokens(500), np.ones(61, dtype=np.int64), 60, 16, stride=stride)
    one = score(model, windows, batch_size=1)
    for batch_size in (2, 3, 7, 1000, None):
        other = score(model, windows, batch_size)
        # Matrix products of another height sum in another order in fp32: each token's loss changes
        # by about 1e-6 of itself, and the mean by less. A mean of the batches' means, which this
        # test excludes, is off by 1e-3.
        assert other.loss == pytest.approx(one.loss, rel=near)
        assert other.bits_per_byte == pytest.approx(one.bits_per_byte, rel=near)
        assert other.accuracy == pytest.approx(one.accuracy, abs=near)
        assert other.tokens == one.tokens


@pytest.mark.usefixtures("arithmetic")
def test_scoring_twice_returns_the_same_bits() -> None:
    model, windows = random_model(), windows_of(markov_tokens(300))
    assert score(model, windows, 8) == score(model, windows, 8)


@pytest.mark.parametrize("vocab_size", [61, 1024])
def test_the_loss_of_a_uniform_guess_is_the_logarithm_of_the_vocabulary(vocab_size: int) -> None:
    model = TinyLLM(tiny_config(vocab_size=vocab_size))
    model.load_state_dict({k: torch.zeros_like(v) for k, v in model.state_dict().items()})
    scores = score(model, windows_of(markov_tokens(200), vocab_size=vocab_size), 8)
    assert scores.loss == pytest.approx(math.log(vocab_size), rel=1e-6)
    assert scores.perplexity == pytest.approx(vocab_size, rel=1e-5)
    assert scores.bits_per_byte == pytest.approx(math.log2(vocab_size), rel=1e-6)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("training", [True, False])
def test_scoring_changes_nothing_and_uses_no_random_numbers(training: bool) -> None:
    model = random_model(tiny_config(dropout=0.5)).train(training)
    windows = windows_of(markov_tokens(300))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    torch.manual_seed(1)
    state, numpy_state = torch.get_rng_state(), str(np.random.get_state())
    scores = score(model, windows, 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert str(np.random.get_state()) == numpy_state
    assert model.training is training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    # In evaluation mode there is no dropout.
    assert score(model.eval(), windows, 8) == scores


SCORE = """
import resource
import numpy as np
from tests.helpers import tiny_config
from tinyllm.compute import generator, set_up
from tinyllm.evaluation.scores import make_windows, score
from tinyllm.models.registry import TinyLLM

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

set_up(threads=2)
model = TinyLLM(tiny_config(vocab_size=3072, context_length=64), generator(1, "weights"))
tokens = np.random.default_rng(1).integers(3072, size=45_000)
windows = make_windows(tokens, np.ones(3072, dtype=np.int64), 0, 64)
before = peak()
score(model, windows)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_the_passes_of_scoring_reuse_their_memory() -> None:
    done = subprocess.run([sys.executable, "-c", SCORE], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 200  # MB; 550 if each of its 44 passes takes new memory


def test_perplexity_is_the_exponential_of_the_loss() -> None:
    scores = Scores(loss=2.0, bits_per_byte=1.0, accuracy=0.5, tokens=10)
    assert scores.perplexity == pytest.approx(math.exp(2))
    assert Scores(loss=1e6, bits_per_byte=1.0, accuracy=0.0, tokens=10).perplexity == math.inf
    assert list(scores.as_dict()) == ["loss", "perplexity", "bits_per_byte", "accuracy"]
