"""Converts a BERT encoder from a sentence-transformers folder to a GGUF file, so that embedding needs no torch.

Weights are copied; only their type changes. Names, shapes and the vocabulary are those that llama.cpp expects for the architecture
"bert": see its `src/models/bert.cpp` and `src/llama-vocab.cpp`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from leanrag.errors import ConfigurationError, ModelLoadError, StorageError
from leanrag.files import whole_file
from leanrag.llama.files.preflight import check_gguf

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CONVERTED_TYPES", "convert_bert"]

CONVERTED_TYPES = ("f16", "bf16", "f32")
"""Types of weights that `convert_bert` writes."""

_WORD_START = "\u2581"  # llama.cpp marks the first token of a word; WordPiece marks the later ones with "##"
_POOLINGS = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST"}
_POOLING_FLAGS = {  # before sentence-transformers 6, each pooling mode had a flag
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
# llama.cpp has only one GELU, the approximation with tanh
_ACTIVATIONS = (
    "gelu",
    "gelu_new",
    "gelu_fast",
    "gelu_pytorch_tanh",
)
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_LAYER = {  # of a layer: name in the folder, name in GGUF, rows and columns
    "attention.self.query": ("attn_q", "width", "width"),
    "attention.self.key": ("attn_k", "width", "width"),
    "attention.self.value": ("attn_v", "width", "width"),
    "attention.output.dense": ("attn_output", "width", "width"),
    "attention.output.LayerNorm": ("attn_output_norm", "width", ""),
    "intermediate.dense": ("ffn_up", "feed_forward", "width"),
    "output.dense": ("ffn_down", "width", "feed_forward"),
    "output.LayerNorm": ("layer_output_norm", "width", ""),
}


def convert_bert(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    type: Literal["f16", "bf16", "f32"] = "f16",  # noqa: A002 - llama.cpp's word
    overwrite: bool = False,
) -> Path:
    """Write a BERT encoder as a GGUF file, for `LlamaCppEmbedder`, and return the file.

    Pooling, window and the prompts named "query" and "document" are written too. After an error, `target` is as it was before.

    Args:
        folder: A model saved with `SentenceTransformer.save`: a BERT encoder with a WordPiece vocabulary, mean, CLS or
            last-token pooling, weights as safetensors, and nothing after the pooling but normalisation.
        target: The file to write.
        type: Type of the weight matrices. "f16" halves the size. "bf16" does too; it is about 1.4 times as fast on a CPU with
            AVX512_BF16 (see `describe_build`), and slow on others. "f32" keeps the numbers of the folder.
        overwrite: Replace `target` if it exists.

    Raises:
        ConfigurationError: `type` is not one of these.
        ModelLoadError: The folder is incomplete, damaged, or has another kind of model; the message says which.
        StorageError: The target exists already, or cannot be written.

    Example:
        >>> convert_bert("models/all-minilm-l6-v2", "all-minilm-l6-v2-f16.gguf")  # doctest: +SKIP
    """
    if type not in CONVERTED_TYPES:
        raise ConfigurationError(f"`type` must be 'f16', 'bf16' or 'f32', got {type!r}")
    target = Path(target)
    if target.is_dir():
        raise StorageError(f"{str(target)!r} is a folder. Pass the name of the file to write", path=target)
    if target.exists() and not overwrite:
        raise StorageError(f"{str(target)!r} exists already. Pass another file, or `overwrite=True`", path=target)
    import gguf
    import safetensors

    source = _Folder(Path(folder))
    encoder = _read_encoder(source)
    vocabulary = _read_vocabulary(source)
    with whole_file(target) as part:
        writer = gguf.GGUFWriter(part, "bert")
        try:
            _add_metadata(gguf, writer, target.stem, encoder, vocabulary, type)
            for name, weights in _read_tensors(safetensors, source, encoder, len(vocabulary.tokens)):
                is_matrix = weights.ndim == 2 and name not in ("position_embd.weight", "token_types.weight")
                kind = gguf.GGMLQuantizationType[type.upper() if is_matrix else "F32"]
                writer.add_tensor(name, _cast(gguf, source, name, weights, kind), raw_dtype=kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        try:
            check_gguf(part)
        except ModelLoadError as error:
            source.fail(f"the written file cannot be read: {error}")
    return target


@dataclass(frozen=True, slots=True)
class _Encoder:
    """The network that `config.json` and the other files of the folder describe."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    token_types: int
    positions: int  # rows of the table of positions
    window: int  # most tokens of a text: the rows of this table that are used
    epsilon: float
    pooling: str
    prompts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """WordPiece tokens in the order of their ids."""

    tokens: Sequence[str]
    special: frozenset[str]  # control tokens
    added: frozenset[str]  # tokens that are found anywhere in a text
    lowercase: bool
    strip_accents: bool


class _Folder:
    """Reads the files of the folder; raises a `ModelLoadError` if something is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise ModelLoadError(
                f"{str(path)!r} is not a folder. Pass the folder of a sentence-transformers model", path=path
            )

    def fail(self, what: str) -> NoReturn:
        raise ModelLoadError(
            f"the model in {str(self.path)!r} cannot be converted: {what}. Pass a BERT encoder that was saved with"
            " SentenceTransformer.save",
            path=self.path,
        )

    def read(self, name: str) -> Any:
        """Return the value in a JSON file; None if the file does not exist."""
        file = self.path / name
        try:
            return json.loads(file.read_bytes()) if file.exists() else None
        except (OSError, ValueError, RecursionError) as error:
            self.fail(f"{name} cannot be read ({error})")

    def read_object(self, name: str, *, optional: bool = False) -> dict[str, Any]:
        """Return the object in a JSON file; an empty object if the file is `optional` and does not exist."""
        value = self.read(name)
        if value is None and optional:
            return {}
        if not isinstance(value, dict):
            self.fail(f"{name} is missing" if value is None else f"{name} has no JSON object")
        return value

    def number(self, values: Mapping[str, Any], key: str) -> int:
        """Return a value that must be a positive integer."""
        value = values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**24:
            self.fail(f"`{key}` is {value!r:.80}, but must be a positive integer")
        return value

    def expect(self, what: str, value: object, *allowed: object) -> None:
        """Raise unless a setting has a value with which llama.cpp can compute."""
        if value not in allowed:
            self.fail(f"{what} is {value!r:.80}, not {' or '.join(map(repr, allowed))}")


# What the folder says


def _read_encoder(folder: _Folder) -> _Encoder:
    config = folder.read_object("config.json")
    folder.expect("`model_type`", config.get("model_type"), "bert")
    folder.expect("`hidden_act`", config.get("hidden_act"), *_ACTIVATIONS)
    folder.expect("`position_embedding_type`", config.get("position_embedding_type", "absolute"), "absolute", None)
    folder.expect("`is_decoder`", config.get("is_decoder", False), False)
    width, heads = folder.number(config, "hidden_size"), folder.number(config, "num_attention_heads")
    if width % heads:
        folder.fail(f"`hidden_size` {width} must be a multiple of `num_attention_heads`, which is {heads}")
    epsilon = config.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        folder.fail(f"`layer_norm_eps` is {epsilon!r:.80}, not between 0 and 1")
    positions = folder.number(config, "max_position_embeddings")
    return _Encoder(
        layers=folder.number(config, "num_hidden_layers"),
        width=width,
        heads=heads,
        feed_forward=folder.number(config, "intermediate_size"),
        token_types=folder.number({"type_vocab_size": 2} | config, "type_vocab_size"),
        positions=positions,
        window=min(positions, _read_window(folder)),
        epsilon=epsilon,
        pooling=_read_pooling(folder),
        prompts=_read_prompts(folder),
    )


def _read_window(folder: _Folder) -> int:
    window = folder.read_object("sentence_bert_config.json", optional=True).get("max_seq_length")
    if window is None:
        window = folder.read_object("tokenizer_config.json", optional=True).get("model_max_length")
    if window is None or (isinstance(window, int | float) and window >= 2**24):  # 1e30 means no limit
        return 2**24
    return folder.number({"max_seq_length": window}, "max_seq_length")


def _read_pooling(folder: _Folder) -> str:
    modules = folder.read("modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        folder.fail("modules.json is missing or has no list of modules")
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    folder.expect("the list of modules", kinds, ["Transformer", "Pooling", "Normalize"], ["Transformer", "Pooling"])
    folder.expect("the path of the transformer", modules[0].get("path", ""), "")
    config = folder.read_object(f"{modules[1].get('path')}/config.json")
    modes = config.get("pooling_mode", [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)])
    modes = [modes] if isinstance(modes, str) else modes
    folder.expect("the pooling mode", modes, *([mode] for mode in _POOLINGS))
    folder.expect("`include_prompt`", config.get("include_prompt", True), True)
    return str(modes[0])


def _read_prompts(folder: _Folder) -> Mapping[str, str]:
    prompts = folder.read_object("config_sentence_transformers.json", optional=True).get("prompts")
    if not isinstance(prompts, dict):
        return {}
    return {role: prompts[role] for role in ("query", "document") if isinstance(prompts.get(role), str)}


def _read_vocabulary(folder: _Folder) -> _Vocabulary:
    settings = folder.read_object("tokenizer.json", optional=True)
    vocabulary = _read_fast_vocabulary(folder, settings) if settings else _read_plain_vocabulary(folder)
    missing = {"[UNK]", "[CLS]", "[SEP]"} - vocabulary.special
    if missing:
        folder.fail(f"its vocabulary has no special token {min(missing)}")
    return vocabulary


def _read_fast_vocabulary(folder: _Folder, settings: Mapping[str, Any]) -> _Vocabulary:
    """Read `tokenizer.json`."""
    model, normalizer = settings.get("model"), settings.get("normalizer")
    if not isinstance(model, dict) or not isinstance(normalizer, dict):
        folder.fail("tokenizer.json does not describe a WordPiece tokenizer")
    folder.expect("the tokenizer", model.get("type", "WordPiece"), "WordPiece")
    folder.expect("`continuing_subword_prefix`", model.get("continuing_subword_prefix", "##"), "##")
    folder.expect("the normalizer", normalizer.get("type"), "BertNormalizer")
    folder.expect("`clean_text`", normalizer.get("clean_text", True), True)
    folder.expect("`handle_chinese_chars`", normalizer.get("handle_chinese_chars", True), True)
    added = settings.get("added_tokens") or []
    try:
        ids = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
        special = frozenset(token["content"] for token in added if token["special"])
        tokens = sorted(ids, key=ids.__getitem__)
    except (TypeError, KeyError) as error:
        folder.fail(f"the vocabulary in tokenizer.json is damaged ({error!r})")
    if not tokens or [ids[token] for token in tokens] != list(range(len(tokens))):
        folder.fail("the vocabulary in tokenizer.json does not number its tokens from 0 on without gaps")
    lowercase = bool(normalizer.get("lowercase", True))
    strip_accents = normalizer.get("strip_accents")
    return _Vocabulary(
        tokens=tokens,
        special=special,
        added=frozenset(token["content"] for token in added) - special,
        lowercase=lowercase
        or bool(folder.read_object("sentence_bert_config.json", optional=True).get("do_lower_case")),
        strip_accents=lowercase if strip_accents is None else bool(strip_accents),
    )


def _read_plain_vocabulary(folder: _Folder) -> _Vocabulary:
    """Read `vocab.txt`, which has a token in each line."""
    try:
        tokens = (folder.path / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        folder.fail(f"neither tokenizer.json nor vocab.txt can be read ({error})")
    config = folder.read_object("tokenizer_config.json", optional=True)
    lowercase, strip_accents = bool(config.get("do_lower_case", True)), config.get("strip_accents")
    return _Vocabulary(
        tokens=tokens,
        special=frozenset(_SPECIAL).intersection(tokens),
        added=frozenset(),
        lowercase=lowercase,
        strip_accents=lowercase if strip_accents is None else bool(strip_accents),
    )


def _read_tensors(
    safetensors: Any, folder: _Folder, encoder: _Encoder, n_tokens: int
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield each tensor's name in GGUF and its numbers."""
    file = folder.path / "model.safetensors"
    if not file.is_file():
        folder.fail("model.safetensors is missing")
    try:
        with safetensors.safe_open(file, framework="np") as tensors:
            stored = {name.removeprefix("bert."): name for name in tensors.keys()}  # noqa: SIM118 - no mapping
            for name, (gguf_name, shape, n_rows) in _layout(encoder, n_tokens).items():
                if name not in stored:
                    folder.fail(f"model.safetensors has no tensor {name!r}")
                weights = tensors.get_tensor(stored[name])
                folder.expect(f"the type of {name}", weights.dtype.name, "float32", "float16")
                is_padded = gguf_name == "token_embd.weight" and weights.shape > shape  # more rows than tokens
                if weights.shape[1:] != shape[1:] or not (weights.shape == shape or is_padded):
                    folder.fail(f"{name} has the shape {weights.shape}, not {shape}")
                yield gguf_name, weights[:n_rows]
    except (safetensors.SafetensorError, OSError, TypeError) as error:  # TypeError: a type that NumPy does not have
        folder.fail(f"model.safetensors cannot be read ({error})")


def _layout(encoder: _Encoder, n_tokens: int) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Return the name in GGUF, the shape, and the number of rows to keep, for each tensor of the folder."""
    width = encoder.width
    sizes = {"width": width, "feed_forward": encoder.feed_forward}
    layout = {
        f"embeddings.{name}": (gguf_name, (rows, width), kept)
        for name, gguf_name, rows, kept in (
            ("word_embeddings.weight", "token_embd.weight", n_tokens, n_tokens),
            ("position_embeddings.weight", "position_embd.weight", encoder.positions, encoder.window),
            ("token_type_embeddings.weight", "token_types.weight", encoder.token_types, encoder.token_types),
        )
    }
    vectors: dict[str, tuple[str, tuple[int, ...], int]] = {
        f"embeddings.LayerNorm.{kind}": (f"token_embd_norm.{kind}", (width,), width) for kind in ("weight", "bias")
    }
    for layer in range(encoder.layers):
        for name, (gguf_name, rows, columns) in _LAYER.items():
            n_rows = sizes[rows]
            shape = (n_rows, sizes[columns]) if columns else (n_rows,)
            vectors[f"encoder.layer.{layer}.{name}.weight"] = (f"blk.{layer}.{gguf_name}.weight", shape, n_rows)
            vectors[f"encoder.layer.{layer}.{name}.bias"] = (f"blk.{layer}.{gguf_name}.bias", (n_rows,), n_rows)
    return {**layout, **vectors}


# What the file holds


def _add_metadata(
    gguf: Any, writer: Any, name: str, encoder: _Encoder, vocabulary: _Vocabulary, type_name: str
) -> None:
    writer.add_name(name)
    writer.add_context_length(encoder.window)
    writer.add_embedding_length(encoder.width)
    writer.add_block_count(encoder.layers)
    writer.add_feed_forward_length(encoder.feed_forward)
    writer.add_head_count(encoder.heads)
    writer.add_layer_norm_eps(encoder.epsilon)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType[_POOLINGS[encoder.pooling]])
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if type_name == "f32" else f"MOSTLY_{type_name.upper()}"])
    writer.add_token_type_count(encoder.token_types)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([_spelled(token, vocabulary) for token in vocabulary.tokens])
    writer.add_token_types([_kind(gguf.TokenType, token, vocabulary) for token in vocabulary.tokens])
    numbers = {token: number for number, token in enumerate(vocabulary.tokens) if token in _SPECIAL}
    writer.add_bos_token_id(numbers["[CLS]"])
    writer.add_eos_token_id(numbers["[SEP]"])
    writer.add_sep_token_id(numbers["[SEP]"])
    writer.add_unk_token_id(numbers["[UNK]"])
    if "[PAD]" in numbers:
        writer.add_pad_token_id(numbers["[PAD]"])
    if "[MASK]" in numbers:
        writer.add_mask_token_id(numbers["[MASK]"])
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", vocabulary.lowercase)
    writer.add_bool("tokenizer.ggml.normalizer.strip_accents", vocabulary.strip_accents)
    for role, prompt in encoder.prompts.items():
        writer.add_string(f"leanrag.{role}_prefix", prompt)


def _spelled(token: str, vocabulary: _Vocabulary) -> str:
    if token in vocabulary.special or token in vocabulary.added:
        return token
    return token[2:] if token.startswith("##") else _WORD_START + token


def _kind(kinds: Any, token: str, vocabulary: _Vocabulary) -> int:
    if token in vocabulary.special:
        return int(kinds.CONTROL)
    return int(kinds.USER_DEFINED if token in vocabulary.added else kinds.NORMAL)


def _cast(gguf: Any, folder: _Folder, name: str, weights: NDArray[Any], kind: Any) -> NDArray[Any]:
    import numpy as np

    with np.errstate(over="ignore"):
        cast: NDArray[Any] = gguf.quants.quantize(np.ascontiguousarray(weights, np.float32), kind)
        if not np.isfinite(gguf.quants.dequantize(cast, kind)).all():
            folder.fail(f"{name} holds numbers that are not finite as {kind.name}")
    return cast
