"""Writes a model as a GGUF file, which llama.cpp, ollama and LM Studio load.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The names of tensors and
settings are those of llama.cpp, taken from the package `gguf`. The same model gives the same bytes.

V: vocabulary, C: width of the model, D: width of a head.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from tinyllm.common.files import checked, checksums, publish_file, read_json
from tinyllm.data.tokenizer import LLAMA_CPP_NAME, PATTERN, Tokenizer
from tinyllm.export.facts import Facts
from tinyllm.export.format import Format
from tinyllm.models.config import NORM_EPS, ROPE_THETA
from tinyllm.models.folder import WEIGHTS, load_model
from tinyllm.models.hf_tokenizer import merges, to_text
from tinyllm.models.huggingface import weights_to_hf
from tinyllm.models.model import Model

Array = npt.NDArray[Any]

MAGIC = b"GGUF"
# llama.cpp's architectures, by the `model_type` of transformers.
ARCHITECTURES = {"qwen3": gguf.MODEL_ARCH.QWEN3, "llama": gguf.MODEL_ARCH.LLAMA}
# The other architectures rotate a feature together with the one D / 2 further, as transformers.
ROTATES_NEIGHBOURS = {gguf.MODEL_ARCH.LLAMA}
TYPES = {None: Type.F32, "q8_0": Type.Q8_0}
FILE_TYPES = {
    Type.F32: gguf.LlamaFileType.ALL_F32,
    Type.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a GGUF file: its values, encoded as `type`."""

    name: str
    data: Array
    type: Type


class GGUF(Format):
    """A GGUF file."""

    quantizations = ("q8_0",)

    def default_output(self, folder: Path, quantize: str | None) -> Path:
        name = folder.resolve().name
        return folder.with_name(f"{name}-{quantize}.gguf" if quantize else f"{name}.gguf")

    def write(self, output: Path, folder: Path, facts: Facts, quantize: str | None) -> list[str]:
        check_output(output)
        model, tokenizer = load_model(folder)
        sums = checksums(folder)
        theirs = read_json(checked(folder, "tokenizer_config.json", sums))
        begins = bool(theirs.get("add_bos_token", False))  # as transformers does with this folder
        return write_gguf(output, model, tokenizer, facts, sums[WEIGHTS], quantize, begins)

    def usage(self, output: Path) -> str:
        return f'llama-completion -m {shlex.quote(str(output))} -no-cnv -n 60 -p "Return "'


def check_output(path: Path) -> None:
    """Check that a file may be replaced: it is new, or a GGUF file.

    Raises:
        ValueError: it is something else.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file to write, like {path / 'model.gguf'}")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError(f"{path} exists and is no GGUF file; choose another name")


def write_gguf(
    path: Path,
    model: Model,
    tokenizer: Tokenizer,
    facts: Facts,
    weights_sha256: str,
    quantize: str | None = None,
    begins: bool = False,
) -> list[str]:
    """Publish a model as a GGUF file, after reading it back.

    Args:
        weights_sha256: SHA-256 of model.safetensors, which MLflow's run has as a tag.
        quantize: a key of TYPES; None stores fp32.
        begins: whether llama.cpp is to put <|endoftext|> before each prompt.

    Returns:
        What the user should know about the file, in sentences.

    Raises:
        ValueError: llama.cpp does not support the network or the tokenizer.
    """
    architecture, wanted = architecture_of(model), TYPES[quantize]
    pre_tokenizer = pre_tokenizer_of(tokenizer)
    tensors = list(tensors_of(model, architecture, wanted))
    with publish_file(path) as temporary:
        writer = gguf.GGUFWriter(temporary, gguf.MODEL_ARCH_NAMES[architecture])
        _add_facts(writer, facts, weights_sha256)
        _add_shape(writer, model, wanted)
        _add_tokenizer(writer, tokenizer, pre_tokenizer, begins)
        for tensor in tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        verify(temporary, tensors)
    return notes(tensors, wanted)


def architecture_of(model: Model) -> gguf.MODEL_ARCH:
    """llama.cpp's name for a network.

    Raises:
        ValueError: llama.cpp does not have it.
    """
    name = model.hf_config()["model_type"]
    if name not in ARCHITECTURES:
        raise ValueError(
            f"llama.cpp has no architecture for {name} (train.architecture); it loads models of "
            f"the architectures {' and '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def pre_tokenizer_of(tokenizer: Tokenizer) -> str:
    """llama.cpp's name for the expression that splits text into pieces.

    Raises:
        ValueError: llama.cpp does not have it; it would produce other ids.
    """
    from tiktoken_ext.openai_public import r50k_pat_str

    names = {PATTERN: LLAMA_CPP_NAME, r50k_pat_str: "gpt-2"}
    encoding = tokenizer.encoding
    if encoding._pat_str not in names:
        raise ValueError(
            f"llama.cpp can't split text like the encoding {encoding.name} (tokenize.encoding), so "
            "it would produce other tokens; it can for a trained vocabulary (tokenize.encoding: "
            "bpe) and for gpt2"
        )
    return names[encoding._pat_str]


def tensors_of(model: Model, architecture: gguf.MODEL_ARCH, wanted: Type) -> Iterator[Tensor]:
    """The weights under llama.cpp's names, encoded."""
    config = model.config
    names = gguf.get_tensor_name_map(architecture, config.n_layer)
    for theirs, weight in weights_to_hf(model.state_dict(), model.hf_names()).items():
        name = names.get_name(theirs, try_suffixes=(".weight",))
        assert name is not None, theirs
        data = weight.float().numpy()
        if architecture in ROTATES_NEIGHBOURS:
            if theirs.endswith("q_proj.weight"):
                data = pair_neighbours(data, config.n_head)
            elif theirs.endswith("k_proj.weight"):
                data = pair_neighbours(data, config.n_kv_head)
        kind = type_for(data, wanted)
        yield Tensor(name, gguf.quants.quantize(np.ascontiguousarray(data), kind), kind)


def pair_neighbours(weight: Array, heads: int) -> Array:
    """Reorder the rows (heads * D, C) of queries or keys for llama.cpp's network of Llama.

    It rotates neighbouring features of a head together, transformers feature i with D / 2 + i.
    """
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def type_for(data: Array, wanted: Type) -> Type:
    """How to store a tensor: vectors (of norms) always as fp32.

    A quantized row consists of blocks of 32 values; a matrix with other rows is stored as fp16, as
    llama.cpp's own program does.
    """
    if data.ndim < 2 or wanted == Type.F32:
        return Type.F32
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return Type.F16 if data.shape[-1] % block else wanted


def notes(tensors: list[Tensor], wanted: Type) -> list[str]:
    """Which matrices are not stored as wanted."""
    matrices = [tensor for tensor in tensors if tensor.data.ndim > 1]
    others = [tensor for tensor in matrices if tensor.type != wanted]
    if not others:
        return []
    kinds = sorted({tensor.name.removesuffix(".weight").split(".")[-1] for tensor in others})
    rows = sorted({tensor.data.shape[-1] for tensor in others})
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return [
        f"{len(others)} of {len(matrices)} matrices ({', '.join(kinds)}) are stored as fp16: their "
        f"rows have {' or '.join(map(str, rows))} values, not a multiple of {block}"
    ]


def _add_facts(writer: gguf.GGUFWriter, facts: Facts, weights_sha256: str) -> None:
    writer.add_type("model")
    writer.add_name(facts.name)
    writer.add_string("tinyllm.weights_sha256", weights_sha256)
    if facts.licence is not None:
        writer.add_license(facts.licence)
    if facts.training_data is not None:
        writer.add_dataset_count(1)
        writer.add_dataset_name(0, facts.training_data)
    if facts.repository is not None:
        writer.add_source_repo_url(facts.repository)
    if facts.commit is not None:
        writer.add_string("tinyllm.commit", facts.commit)


def _add_shape(writer: gguf.GGUFWriter, model: Model, wanted: Type) -> None:
    config, theirs = model.config, model.hf_config()
    writer.add_file_type(FILE_TYPES[wanted])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(theirs["intermediate_size"])
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_kv_head)
    writer.add_key_length(config.d_head)
    writer.add_value_length(config.d_head)
    writer.add_rope_dimension_count(config.d_head)
    writer.add_rope_freq_base(ROPE_THETA)
    writer.add_layer_norm_rms_eps(NORM_EPS)


def _add_tokenizer(
    writer: gguf.GGUFWriter, tokenizer: Tokenizer, pre_tokenizer: str, begins: bool
) -> None:
    encoding = tokenizer.encoding
    texts = [f"[unused {i}]" for i in range(tokenizer.vocab_size)]
    types = [gguf.TokenType.UNUSED] * tokenizer.vocab_size
    for token, i in encoding._mergeable_ranks.items():
        texts[i], types[i] = to_text(token), gguf.TokenType.NORMAL
    for text, i in encoding._special_tokens.items():
        texts[i], types[i] = text, gguf.TokenType.CONTROL
    pairs = merges(encoding._mergeable_ranks)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges([f"{to_text(left)} {to_text(right)}" for left, right in pairs])
    writer.add_bos_token_id(tokenizer.end_of_text)
    writer.add_eos_token_id(tokenizer.end_of_text)
    writer.add_add_bos_token(begins)


def verify(path: Path, tensors: list[Tensor]) -> None:
    """Read a file back and compare its tensors with those that were to be written.

    Raises:
        ValueError: they differ.
    """
    try:
        found = {
            tensor.name: (tensor.tensor_type, sha256(tensor.data.tobytes()).digest())
            for tensor in gguf.GGUFReader(path).tensors
        }
    except (ValueError, IndexError) as error:  # numpy's errors for a file that ends too early
        raise ValueError(f"{path} is corrupt after writing: {error}") from None
    wanted = {
        tensor.name: (tensor.type, sha256(tensor.data.tobytes()).digest()) for tensor in tensors
    }
    if found != wanted:
        differing = sorted(name for name, _ in found.items() ^ wanted.items())
        raise ValueError(f"{path} is corrupt after writing: {differing[0]} differs")
