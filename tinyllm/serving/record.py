"""Records in the journal what MLflow needs to serve the model; the sender logs it later."""

import io
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.common.files import read_json
from tinyllm.common.source_files import ROOT, files_of
from tinyllm.data.token_store import TokenSplit, document_lengths
from tinyllm.models.folder import CONFIG
from tinyllm.serving.request import MOST_TOKENS, PARAMS, PROMPT
from tinyllm.settings.evaluate import Evaluate
from tinyllm.tracking.datasets import dataset
from tinyllm.tracking.journal import Journal
from tinyllm.tracking.model_record import LENGTHS, LOSSES, Candidate, ModelRecord

NAME = "model"  # `runs:/ID/model` is its address
SCRIPT, THIS = "tinyllm/serving/script.py", "record.py"
USED = ("tinyllm.generation.text", "tinyllm.models.folder", "tinyllm.compute")  # by the server
# What their code imports, and what MLflow needs to serve it.
PACKAGES = ("mlflow", "numpy", "psutil", "pydantic", "safetensors", "tiktoken", "torch")
EXAMPLE: list[dict[str, Any]] = [{PROMPT: ["Return "]}, {"max_new_tokens": 20, "seed": 1}]
NOTE = """\
Continues text. {bits_per_byte:.4f} bits per byte on the test split.

```sh
mlflow models serve -m {{uri}} --env-manager local --port 5001
curl 127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
  -d '{{{{"inputs": ["Return "], "params": {{{{"max_new_tokens": 40, "seed": 1}}}}}}}}'
```
"""


def record_model(
    journal: Journal,
    model: Path,
    losses: Path,
    test: TokenSplit,
    bits_per_byte: float,
    settings: Evaluate,
) -> None:
    """Record the model, its score on the test split, and the loss of each test token.

    Args:
        model: the model folder.
        losses: the file that `evaluation.final_scores.write_losses` wrote.
    """
    try:
        lengths = io.BytesIO()
        end_of_text = read_json(model / CONFIG)["eos_token_id"]
        np.save(lengths, document_lengths(test.tokens, end_of_text), allow_pickle=False)
        record = ModelRecord(
            name=NAME,
            script=SCRIPT,
            signature=signature(settings),
            example=EXAMPLE,
            requirements=requirements(),
            note=NOTE.format(bits_per_byte=bits_per_byte),
            dataset=dataset("test split", test, "testing"),
            candidate=candidate(test, bits_per_byte, settings),
        )
        modules = {name: ROOT / name for name in code()}
    except Exception as error:  # of any kind: the scores are published, and the stage succeeds
        print(f"MLflow will not receive the model of this run: {error}", file=sys.stderr)
        return
    journal.file(losses, LOSSES)
    journal.content(LENGTHS, lengths.getvalue())
    journal.model(record, model, modules)


def candidate(test: TokenSplit, bits_per_byte: float, settings: Evaluate) -> Candidate | None:
    """How to register the model; None if the settings do not ask for it."""
    if settings.register_as is None:
        return None
    return Candidate(
        name=settings.register_as,
        bits_per_byte=bits_per_byte,
        test_data=test.summary.sha256,
        test_tokens=test.summary.tokens,
        test_bytes=test.summary.bytes,
        scored_with=f"stride {settings.stride}",
    )


def code() -> list[str]:
    """The modules that the server imports, relative to the project root."""
    folder = (ROOT / SCRIPT).parent
    serving = {path.relative_to(ROOT) for path in folder.glob("*.py") if path.name != THIS}
    return sorted(path.as_posix() for path in serving.union(*map(files_of, USED)))


def requirements() -> list[str]:
    """Exact versions of the packages that the server needs, without local labels like +cpu."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES]


def signature(settings: Evaluate) -> dict[str, Any]:
    """The signature in the form of MLflow's file MLmodel; the samples' settings are the defaults.

    The type of prompts is "any", because MLflow's server would convert the number 5 to the string
    "5" before the model sees it; the model accepts text only.
    """
    defaults = {param["name"]: param["default"] for param in PARAMS} | {
        "max_new_tokens": min(settings.sample_tokens, MOST_TOKENS),
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
    }
    return {
        "inputs": [{"type": "any", "name": PROMPT, "required": True}],
        "outputs": [{"type": "string", "required": True}],
        "params": [{**param, "default": defaults[param["name"]]} for param in PARAMS],
    }
