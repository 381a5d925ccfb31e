"""Models and embedders that are loaded by name or file, each with what was measured to suit it."""

from __future__ import annotations

import contextlib
import os
from typing import Any, TypeVar

from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.llama.process import load_model
from leanrag.models import resolve_model
from leanrag.pipeline.copies import find_embedder
from leanrag.prompting import ModelProfile, profile_named
from leanrag.protocols import Closable, Embedder, LanguageModel
from leanrag.retrieval.embedding import SentenceTransformerEmbedder
from leanrag.routing.cascade import model_name
from leanrag.threads import Priority, ThreadCount

__all__ = ["closed_with", "load_embedder", "load_language_model"]

T = TypeVar("T")


def load_language_model(
    model: str | os.PathLike[str], *, profile: ModelProfile | None = None, **settings: Any
) -> LanguageModel:
    """Return the model that a name or a file means.

    Args:
        model: A name that `leanrag list` shows, or a GGUF file, with or without LoRA adapters after it.
        profile: How the model is asked; None takes the profile of its name, if there is one.
        settings: Options of `leanrag.llama.load_model`, such as `n_ctx` and `isolation`.

    Raises:
        ConfigurationError: It is neither a known name nor a file.
        ModelLoadError: The model is not on this machine, or cannot be loaded.
    """
    files, name = resolve_model(model), model_name(model)
    profile = profile or profile_named(name)
    loaded: LanguageModel = load_model(
        files.path,
        adapters=files.adapters,
        name=name,
        no_repeats=True,
        chat_template=(profile and profile.chat_template) or None,
        **settings,
    )
    return loaded


def load_embedder(
    name: str | os.PathLike[str],
    *,
    priority: Priority = "normal",
    query_prefix: str | None = None,
    document_prefix: str | None = None,
) -> Embedder:
    """Return the embedder that a name, a GGUF file or a folder of a sentence-transformers model means.

    Raises:
        ConfigurationError: It is neither a known name nor a path that exists.
        ModelLoadError: The model is not on this machine, or cannot be loaded.
        MissingDependencyError: A folder needs the extra `torch`.
    """
    path = find_embedder(os.fspath(name))
    if path.is_file():
        return LlamaCppEmbedder(path, query_prefix=query_prefix, document_prefix=document_prefix, priority=priority)
    threads = ThreadCount(None, priority).most if priority == "background" else None
    return SentenceTransformerEmbedder(
        path, query_prefix=query_prefix, document_prefix=document_prefix, threads=threads
    )


def closed_with(stack: contextlib.ExitStack, part: T) -> T:
    """Return a model or embedder, which is closed at the end of `stack` if it can be closed."""
    if isinstance(part, Closable):
        stack.callback(part.close)
    return part
