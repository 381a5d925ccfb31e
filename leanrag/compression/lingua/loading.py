"""Load models for the package from folders of transformers, and make such folders from GGUF files."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from leanrag._optional import require, without_progress_bars
from leanrag.compression.lingua.driver import WHY, LinguaMethod
from leanrag.compression.lingua.words import Family
from leanrag.errors import CompressionError, ConfigurationError, LeanRAGError, ModelLoadError, StorageError

__all__ = ["classifier_window", "dequantize", "load_scorer", "package_errors", "read_config"]

_GGUF = b"GGUF"
_FAMILIES: tuple[str, ...] = get_args(Family)  # values of `model_type`


@contextlib.contextmanager
def package_errors() -> Iterator[None]:
    """Turn errors of the package, many of which have no message, into `CompressionError`."""
    try:
        yield
    except LeanRAGError:
        raise
    except Exception as error:
        raise CompressionError(
            f"llmlingua failed ({type(error).__name__}: {error}). Try another method, model or device, or fewer tokens at a time"
            " (`window_tokens`)"
        ) from error


def read_config(folder: Path, method: LinguaMethod) -> dict[str, Any]:
    """Return the `config.json` of the model, after checking the folder; no heavy package is imported."""
    if folder.is_file():
        with folder.open("rb") as file:
            if file.read(4) == _GGUF:
                raise ConfigurationError(
                    f"{str(folder)!r} is a GGUF file, but llmlingua needs a folder of transformers. Make a folder with"
                    f" leanrag.compression.lingua.dequantize({folder.name!r}, folder)"
                )
        raise ConfigurationError(f"`model` must be a folder, got the file {str(folder)!r}")
    if not folder.is_dir():
        raise ConfigurationError(
            f"`model` must be a local folder of a transformers model, got {str(folder)!r}. Nothing is downloaded: save the model"
            " to a folder first, or make a folder from a GGUF file with `dequantize`"
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = [str(name) for name in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError) as error:
        raise ModelLoadError(f"{str(folder)!r} has no readable config.json: {error}", path=folder) from error
    is_classifier = any("ForTokenClassification" in name for name in architectures)
    if method == "llmlingua2":
        if not is_classifier or config.get("model_type") not in _FAMILIES:
            raise ConfigurationError(
                "the method 'llmlingua2' needs a token classifier of type bert or xlm-roberta (LLMLingua-2 weights), got"
                f" {config.get('model_type')!r}, {', '.join(architectures) or 'no architecture'}"
            )
    elif is_classifier:
        raise ConfigurationError(
            f"the method {method!r} needs a causal language model, got {', '.join(architectures)}. For LLMLingua-2 weights pass"
            " method='llmlingua2'"
        )
    return config  # type: ignore[no-any-return]


def classifier_window(config: Mapping[str, Any]) -> int:
    """Return the tokens that a classifier reads at a time; XLM-RoBERTa numbers positions from 2."""
    positions = int(config.get("max_position_embeddings") or 512)
    return min(512, positions - (2 if config["model_type"] == "xlm-roberta" else 0))


def load_scorer(folder: Path, method: LinguaMethod, device: str, *, dtype: Any = None) -> tuple[Any, Any]:
    """Return the tokenizer and the model. Nothing is downloaded, and no code of the folder is run."""
    for package in ("llmlingua", "torch"):
        require(package, extra="lingua", why=WHY)
    transformers = require("transformers", extra="lingua", why=WHY)
    torch = require("torch", extra="lingua", why=WHY)
    kind = transformers.AutoModelForTokenClassification if method == "llmlingua2" else transformers.AutoModelForCausalLM
    try:
        with without_progress_bars(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            model = kind.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype if dtype is not None else torch.float32 if device == "cpu" else "auto",
            ).to(device)
    except Exception as error:
        raise ModelLoadError(f"{str(folder)!r} cannot be loaded on {device!r}: {error}", path=folder) from error
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"the tokenizer in {str(folder)!r} cannot return the offsets of tokens. Save a tokenizer with a tokenizer.json"
        )
    return tokenizer, model.eval()


def dequantize(gguf: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Write a GGUF language model as a transformers folder, for `LLMLinguaCompressor`, and return the folder.

    The weights of the GGUF file are written as float32, 4 bytes each: 540 MB for smollm2-135m. The folder appears only when it is
    complete. Nothing is downloaded; transformers may show its progress on standard error. It works for the architectures that
    transformers reads from GGUF (llama, qwen2, mistral, phi3 ...). A transformers folder of a model that was never quantised, such
    as Llama-2-7B-chat of the paper, can be used without this function.

    Args:
        gguf: The file.
        folder: The new folder; it must not exist.

    Raises:
        MissingDependencyError: The extra "lingua" is not installed.
        ModelLoadError: The file does not exist, or transformers cannot read it.
        StorageError: The folder exists, or cannot be written.
    """
    gguf, folder = Path(gguf), Path(folder)
    torch = require("torch", extra="lingua", why=WHY)
    transformers = require("transformers", extra="lingua", why=WHY)
    if not gguf.is_file():
        raise ModelLoadError(f"the file {str(gguf)!r} does not exist. Pass the path of a GGUF file", path=gguf)
    if folder.exists():
        raise StorageError(f"the folder {str(folder)!r} exists already. Pass another folder, or remove it", path=folder)
    parent, name = str(gguf.parent.absolute()), gguf.name
    options: dict[str, Any] = {"gguf_file": name, "local_files_only": True, "trust_remote_code": False}
    plain = {}
    if hasattr(transformers, "GgufConfig"):  # transformers 5 may otherwise download code to compute with packed weights
        plain["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        with without_progress_bars(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(parent, **options)
            model = transformers.AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32, **plain, **options)
    except Exception as error:
        raise ModelLoadError(f"transformers cannot read {str(gguf)!r}: {error}", path=gguf) from error
    model.config.__dict__.pop("quantization_config", None)
    model.hf_quantizer = None  # otherwise transformers 5 refuses to save the weights, which are plain numbers now
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        with without_progress_bars(transformers):
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
        draft.rename(folder)
    except OSError as error:
        raise StorageError(f"{str(folder)!r} cannot be written: {error}", path=folder) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
