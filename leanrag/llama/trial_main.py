"""The child process of a trial: it loads a file, computes a few tokens and ends. Only whether it survives counts."""

from __future__ import annotations

import os

from leanrag.errors import LeanRAGError
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.llama.model import LlamaCppModel
from leanrag.llama.trial import TrialKind

__all__ = ["run"]

_TEXT = "A text é 漢 😀\n"  # also characters that few vocabularies have


def run(path: str, kind: TrialKind, n_ctx: int) -> None:
    """Load the file; an error that Python can catch is left to the process that asked."""
    try:
        if kind == "embedder":
            LlamaCppEmbedder(path, n_ctx=n_ctx, trial=False).embed_documents([_TEXT])
        else:
            LlamaCppModel(path, n_ctx=n_ctx, trial=False).generate(_TEXT, max_tokens=1)
    except LeanRAGError:
        pass
    os._exit(0)
