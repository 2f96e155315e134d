"""The weights that a training starts from: random ones, or those of a trained model."""

from tinyllm.common.errors import RunAgain
from tinyllm.compute import generator
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.config import ModelConfig
from tinyllm.models.folder import load_network
from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.init_from import base_model
from tinyllm.settings.load import Params


def initial_model(params: Params, config: ModelConfig, tokenizer: Tokenizer) -> Model:
    """Make the model to train.

    Args:
        tokenizer: the one that encoded the data; a model to start from must have the same.

    Raises:
        ValueError: the model to start from is missing or corrupt, or has another tokenizer.
    """
    base = base_model(params.train.init_from)
    if base is None:
        return TinyLLM(config, generator(params.seed, "weights"))
    if not Tokenizer.load(base).encodes_like(tokenizer):
        raise RunAgain(
            f"train.init_from = {params.train.init_from!r}: its tokenizer did not encode the data"
        )
    return load_network(base, config)
