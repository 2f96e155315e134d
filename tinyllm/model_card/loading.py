"""The section of a model card that shows how to load the model, one example for each program."""

import json

from tinyllm.models.model import Model

FOLDER = "path/to/this/folder"


def how_to_load(architecture: type[Model], prompt: str, context_length: int) -> str:
    """Commands that load the folder, for each program that knows the architecture."""
    quoted = json.dumps(prompt, ensure_ascii=False)
    tokens = max(1, context_length // 2)
    needs = f"`transformers` {architecture.HF_SINCE} or newer"
    parts = [
        "## Use it",
        f"With {needs}:",
        _code(
            "python",
            "from transformers import pipeline",
            "",
            f'generate = pipeline("text-generation", model="{FOLDER}")',
            f"options = dict(max_new_tokens={tokens}, do_sample=True, temperature=0.8, top_k=50)",
            f'print(generate({quoted}, **options)[0]["generated_text"])',
        ),
        "Without `do_sample=True` it always takes the most likely token, and soon repeats itself. "
        "The tokenizer puts `<|endoftext|>` before the prompt, as in training, where it stands "
        "before each document.",
        "As a server with OpenAI's API, and scores on a task of the evaluation harness:",
        _code(
            "sh",
            f"transformers serve {FOLDER}",
            f"lm_eval --model hf --model_args pretrained={FOLDER} --tasks arc_easy",
        ),
    ]
    if architecture.ELSEWHERE:
        parts += [
            "With vLLM, MLX, and (after `tinyllm export`, which writes a GGUF) llama.cpp:",
            _code(
                "sh",
                f"vllm serve {FOLDER}",
                f"mlx_lm.generate --model {FOLDER} --prompt {_shell(prompt)} --max-tokens {tokens}",
                f"llama-completion -m tinyllm.gguf -no-cnv -n {tokens} -p {_shell(prompt)}",
            ),
        ]
    else:
        parts += ["Programs that don't use `transformers` do not know this architecture."]
    return "\n\n".join(parts)


def _code(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _shell(text: str) -> str:
    """A text quoted for bash."""
    plain = text.isprintable() and "'" not in text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{text}'" if plain else f"$'{escaped}'"
