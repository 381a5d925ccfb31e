"""Checks of the arguments of `PromptCompressor`, before anything is loaded or computed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leanrag._optional import require
from leanrag.compression.compat.causal import check_budget, check_reorder
from leanrag.compression.lingua.driver import WHY
from leanrag.errors import ConfigurationError
from leanrag.evidence.protection import Protection

__all__ = [
    "check_ids",
    "check_names",
    "check_rate",
    "check_settings",
    "check_target",
    "find_device",
    "find_folder",
    "read_documents",
    "with_forced",
]

_CONDITIONS = ("none", "before", "after")
_WHOLE_NUMBERS = {
    "iterative_size": 1,
    "force_context_number": 0,
    "keep_first_sentence": 0,
    "keep_last_sentence": 0,
    "keep_sentence_number": 0,
}
"""Least values of the parameters that count something."""


def read_documents(context: Sequence[str] | str) -> list[str]:
    """Return the documents of `context`; a document with a space if there are none, as the package."""
    if isinstance(context, str):
        return [context]
    documents: list[Any] = list(context)
    for document in documents:
        if not isinstance(document, str):
            raise ConfigurationError(f"`context` must be a list of strings, got {document!r:.80} in it")
    return documents or [" "]  # as the package


def check_names(name: str, settings: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Raise `ConfigurationError` if `settings` has a key that is not allowed."""
    if unknown := sorted(set(settings) - set(allowed)):
        raise ConfigurationError(f"`{name}` may have {', '.join(allowed)}, got {', '.join(map(repr, unknown))}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_rate(rate: float) -> None:
    """Raise `ConfigurationError` if a rate is not in [0, 1]."""
    if not _is_number(rate) or not 0 <= rate <= 1:
        raise ConfigurationError(f"`rate`, the share of the tokens to keep, must be in [0, 1], got {rate!r}")


def check_target(rate: float, target: float) -> None:
    """Raise `ConfigurationError` if `rate` or `target_token` cannot work."""
    check_rate(rate)
    if not _is_number(target) or not (target == -1 or target >= 0):
        raise ConfigurationError(f"`target_token` must be a number of tokens, or -1 for `rate`, got {target!r}")


def check_ids(ids: Sequence[int] | None, count: int) -> None:
    """Raise `ConfigurationError` if `force_context_ids` are not indices of `count` documents."""
    for i in ids or ():
        if not hasattr(i, "__index__") or not 0 <= i < count:
            raise ConfigurationError(f"`force_context_ids` must be indices of the {count} documents, got {i!r}")


def find_folder(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a model: a path, or what the cache of the hub has under a name."""
    folder = Path(name)
    if folder.exists() or not isinstance(name, str):
        return folder
    with contextlib.suppress(Exception):  # a name that is not in the cache is told of by `read_config`
        hub = require("huggingface_hub", extra="lingua", why=WHY)
        return Path(hub.snapshot_download(name, local_files_only=True))
    return folder


def find_device(device_map: str) -> str:
    """Return the device of torch."""
    if any(name in device_map for name in ("cuda", "cpu", "mps")):
        return device_map
    return "cuda" if require("torch", extra="lingua", why=WHY).cuda.is_available() else "cpu"


def with_forced(protection: Protection | None, tokens: Sequence[str], digits: bool) -> Protection | None:
    """Return the protection with the words of `force_tokens` and the numbers, for causal language models."""
    if isinstance(tokens, str) or not all(tokens):
        raise ConfigurationError(f"`force_tokens` must be a list of non-empty strings, got {tokens!r}")
    patterns = [*map(re.escape, tokens), *([r"\S*\d\S*"] if digits else [])]
    if not patterns:
        return protection
    before = protection or Protection(kinds=())
    return Protection(before.kinds, [*before.patterns, *patterns], before.everywhere)


def check_settings(settings: Mapping[str, Any], count: int) -> None:
    """Check the parameters of LLMLingua and LongLLMLingua for `count` documents.

    Raises:
        ConfigurationError: A parameter cannot work.
    """
    check_target(settings["rate"], settings["target_token"])
    condition = str(settings["condition_in_question"]).removesuffix("_condition")
    if condition not in _CONDITIONS:
        raise ConfigurationError(
            f"`condition_in_question` must be one of {', '.join(_CONDITIONS)}, with or without '_condition', got"
            f" {settings['condition_in_question']!r}"
        )
    check_reorder(settings["reorder_context"])
    check_budget(settings["context_budget"])
    if settings["rank_method"] not in ("llmlingua", "gzip") and not settings["question"].strip():
        raise ConfigurationError(
            f"`rank_method={settings['rank_method']!r}` needs a question, got {settings['question']!r}. Pass `question=`"
        )
    check_ids(settings["force_context_ids"], count)
    for name, least in _WHOLE_NUMBERS.items():
        number = settings.get(name)
        if number is not None and (not hasattr(number, "__index__") or number < least):
            raise ConfigurationError(f"`{name}` must be a whole number, at least {least}, got {number!r}")
