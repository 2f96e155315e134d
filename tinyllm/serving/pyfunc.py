"""The model behind MLflow's interface `mlflow.pyfunc`, for its server and `load_model`."""

import functools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel

from tinyllm.serving.request import (
    DEFAULTS,
    PROMPT,
    Request,
    read_request,
)

if TYPE_CHECKING:
    from tinyllm.generation.sampling import Sampling

MODEL = "model"  # the artifact: a model folder


class TextModel(PythonModel):
    """Continues prompts; several threads may call it at once, as MLflow's server does.

    The input is a table with the column `prompt`; the output is a list of texts without prompts.
    """

    def load_context(self, context: Any) -> None:
        """Load the model folder and verify its checksums."""
        from tinyllm.compute import find_device
        from tinyllm.generation.text import TextGenerator
        from tinyllm.models.folder import load_model

        check_requests_first()
        model, tokenizer = load_model(Path(context.artifacts[MODEL]))
        model.to(find_device("auto"))
        self._generator = TextGenerator(model, tokenizer)
        self._one_at_a_time = threading.Lock()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[str]:
        """Generate the continuation of each prompt."""
        del context
        with _faults_as_bad_request():
            asked = read_request(prompts_of(model_input), params)
            with self._one_at_a_time:
                texts = self._generator.complete(
                    asked.prompts, sampling_of(asked), seed=asked.seed, stop=asked.stop
                )
        return [text.text for text in texts]

    def predict_stream(
        self, context: Any, model_input: Any, params: dict[str, Any] | None = None
    ) -> Iterator[str]:
        """Generate the continuation of one prompt, piece by piece."""
        del context
        with _faults_as_bad_request():
            asked = read_request(prompts_of(model_input), params)
            if len(asked.prompts) > 1:
                raise ValueError("predict_stream continues one prompt; predict continues several")
            pieces = self._generator.stream(
                asked.prompts, sampling_of(asked), seed=asked.seed, stop=asked.stop
            )
        while True:
            with self._one_at_a_time:  # not between two pieces, when the caller has control
                piece = next(pieces, None)
            if piece is None:
                return
            if piece[0]:
                yield piece[0]


def sampling_of(asked: Request) -> "Sampling":
    """How the next token is chosen."""
    from tinyllm.generation.sampling import Sampling

    return Sampling(asked.max_new_tokens, asked.temperature, asked.top_k, asked.top_p)


class _faults_as_bad_request:
    """Turns a ValueError into the exception that MLflow's server answers with status 400."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ValueError):
            raise MlflowException.invalid_parameter_value(str(error)) from None


def check_requests_first() -> None:
    """Make MLflow check requests to this model before it converts them.

    MLflow drops unknown parameters and columns with a warning in the server's log, so that a
    misspelt `temperature` would be ignored; and it accepts a list for `stop`, but no string. It has
    no hook for either, so its private function is wrapped. Other models are not affected. In a
    version of MLflow without that function, requests are handled in MLflow's way.
    """
    import mlflow.pyfunc

    module = sys.modules[mlflow.pyfunc.__name__]  # the name itself may be a lazy loader
    original = getattr(module, "_validate_prediction_input", None)
    if original is None or hasattr(original, "checks_requests"):
        return

    @functools.wraps(original)
    def validate(data: Any, params: Any, input_schema: Any, params_schema: Any, *rest: Any) -> Any:
        if params_schema is not None and {each.name for each in params_schema} == DEFAULTS.keys():
            with _faults_as_bad_request():
                data, params = _checked(data, params)
        return original(data, params, input_schema, params_schema, *rest)

    validate.checks_requests = True  # type: ignore[attr-defined]
    module._validate_prediction_input = validate  # type: ignore[attr-defined]


def _checked(data: Any, params: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A request in the form that the signature describes.

    Raises:
        ValueError: a column, a prompt or a parameter is wrong.
    """
    if params is not None and not isinstance(params, dict):
        raise ValueError(f"params: must be an object, not {type(params).__name__}")
    asked = read_request(prompts_of(data), params)
    table = pd.DataFrame({PROMPT: pd.Series(asked.prompts, dtype=object)})
    return table, (params or {}) | {"stop": asked.stop}


def prompts_of(data: Any) -> list[object]:
    """The prompts of an input: a text, a list of texts, a row, a list of rows, or a table.

    Raises:
        ValueError: there is another column than `prompt`.
    """
    if isinstance(data, (dict, pd.DataFrame)):
        if [*data] != [PROMPT]:
            found = ", ".join(map(repr, data)) or "none"
            raise ValueError(f"columns: {found}; there must be one, {PROMPT!r}")
        data = data[PROMPT]
    if hasattr(data, "tolist"):  # of numpy or pandas
        data = data.tolist()
    if not isinstance(data, list):
        return [data]
    return [
        prompt for row in data for prompt in (prompts_of(row) if isinstance(row, dict) else [row])
    ]
