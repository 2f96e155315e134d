"""Writing text with a trained model: sampling, with a cache of keys and values."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyllm.model.transformer import Cache, TinyLLM


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_tokens: how many to write at most.
        temperature: the logits are divided by it; 0 takes the likeliest token.
        top_k: only so many of the likeliest are considered; None: all.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int | None = None


@torch.no_grad()
def generate(
    model: TinyLLM,
    prompt: Tensor,
    sampling: Sampling,
    generator: torch.Generator,
    stop: int | None = None,
) -> Iterator[Tensor]:
    """Yield the tokens that follow a prompt, one position at a time.

    Past the model's context length the oldest half of the context is dropped and the rest computed
    anew, which costs one pass over half a context every half a context.

    Args:
        prompt: ids (B, T), T at least 1.
        generator: draws the tokens; on the model's device.
        stop: ends the text once every sequence has produced it; it is not yielded then.

    Yields:
        ids (B,).
    """
    model.eval()
    limit = model.config.context_length
    context = prompt[:, -limit:]
    cache = _new_cache(model, prompt)
    logits = model(context, cache)[:, -1]
    done = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    for _ in range(sampling.max_tokens):
        token = choose(logits, sampling, generator)  # (B,)
        if stop is not None:
            done |= token == stop
            if done.all():
                return
        yield token
        context = torch.cat((context, token[:, None]), dim=1)
        if cache.length == limit:
            context = context[:, -(limit // 2) :]
            cache = _new_cache(model, prompt)
            logits = model(context, cache)[:, -1]
        else:
            logits = model(token[:, None], cache)[:, -1]


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """Draw one token a row from logits (B, V); ids (B,)."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature  # none overflows
    if sampling.top_k is not None and sampling.top_k < logits.size(-1):
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(1)


def _new_cache(model: TinyLLM, prompt: Tensor) -> Cache:
    like = model.embedding.weight.new_empty(0, dtype=model.compute_dtype)
    return Cache(model.config, len(prompt), like)
