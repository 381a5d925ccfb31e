"""leanrag, with a stage more in each row."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import leanrag
from benchmarks.end_to_end.observing import Reply
from leanrag.evidence import GreedyPacker
from leanrag.llama import LlamaCppModel
from leanrag.models import resolve_model
from leanrag.pipeline.copies import make_copy
from leanrag.protocols import LanguageModel
from leanrag.routing.labels import answer_text
from leanrag.types import Answer

__all__ = [
    "CONTEXT_TOKENS",
    "EMBEDDER",
    "FINAL",
    "LARGE",
    "READER",
    "READER_TOKENS",
    "ROWS",
    "SMALL",
    "THRESHOLD",
    "LeanRag",
    "Models",
    "Row",
    "open_row",
    "to_reply",
]

LARGE, SMALL, READER, EMBEDDER = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2-135m", "all-minilm-l6-v2"
READER_TOKENS, CONTEXT_TOKENS = 120, 120
"""Most tokens of sources for the trained reader, and for the models of Qwen."""

THRESHOLD = 0.5
"""An answer of the first model is kept from this confidence on; chosen with other held-out questions than those measured."""


class Models:
    """Loads each model of the rows once."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._loaded: dict[tuple[str, str, bool], LlamaCppModel] = {}

    def load(self, name: str, *, type: str = "", reuses: bool = True) -> LanguageModel:  # noqa: A002 - llama.cpp's word
        """Return a model.

        Args:
            name: Its name.
            type: Type of its weights; "" for those of the file that `leanrag pull` downloads.
            reuses: Whether it keeps prompts that it computed.
        """
        key = name, type, reuses
        if key not in self._loaded:
            files = resolve_model(name)
            base = name.partition("+")[0]
            path = make_copy(base, type) if type else files.path
            options: dict[str, Any] = {} if reuses else {"cache_bytes": 0}
            model = LlamaCppModel(path, adapters=files.adapters, name=name, no_repeats=True, **options)
            self._loaded[key] = self._stack.enter_context(model)
        return self._loaded[key]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        name: Its name: the stage that it adds.
        options: Returns the arguments of `leanrag.open`.
    """

    name: str
    options: Callable[[Models], dict[str, Any]]


def _cascade(models: Models, first: LanguageModel, tokens: int) -> dict[str, Any]:
    second = models.load(LARGE, type="q4_0")
    cascade = leanrag.Cascade([first, second], threshold=THRESHOLD, context_tokens=[tokens, CONTEXT_TOKENS])
    return {"model": cascade}


ROWS = (
    Row(
        "packing",
        lambda models: {
            "model": models.load(LARGE, reuses=False),
            "packer": GreedyPacker(),
            "context_tokens": "auto",
        },
    ),
    Row("compression", lambda models: {"model": models.load(LARGE, reuses=False)}),
    Row("INT4 format", lambda models: {"model": models.load(LARGE, type="q4_0", reuses=False)}),
    Row("prefix reuse", lambda models: {"model": models.load(LARGE, type="q4_0")}),
    Row("cascade", lambda models: _cascade(models, models.load(SMALL, type="q4_0"), CONTEXT_TOKENS)),
    Row("trained reader", lambda models: _cascade(models, models.load(f"{READER}+reader"), READER_TOKENS)),
)
"""Each row has the stages of the rows before it. "packing" packs whole passages, and "compression" the best sentences."""

FINAL = ROWS[-1]


def open_row(row: Row, folder: Path, models: Models, **more: Any) -> leanrag.Rag:
    """Open the folder of the documents with the stages of a row."""
    options = {"context_tokens": CONTEXT_TOKENS, **row.options(models), **more}
    return leanrag.open(folder, embedder=EMBEDDER, style="phrase", create=False, **options)


class LeanRag:
    """Answers with leanrag.

    Args:
        name: Of the row.
        rag: The folder with the stages of the row.
    """

    def __init__(self, name: str, rag: leanrag.Rag) -> None:
        self.name = name
        self._rag = rag

    def ask(self, question: str) -> Reply:
        """Answer a question."""
        started = time.perf_counter()
        answer = self._rag.ask(question)
        return to_reply(answer, time.perf_counter() - started)


def to_reply(answer: Answer, seconds: float) -> Reply:
    """Return the reply of an answer that took so many seconds."""
    return Reply(
        "" if answer.abstained or answer.model is None else answer_text(answer.text),
        "\n".join(item.text for item in answer.packing.items),
        answer.usage.prompt_tokens,
        _first_token_seconds(answer, seconds),
        sum(step.model == LARGE and step.outcome != "skipped" for step in answer.steps),
    )


def _first_token_seconds(answer: Answer, seconds: float) -> float:
    """Return the seconds until the kept answer has its first token: the stages before its generation, and reading its prompt."""
    generations = [i for i, stage in enumerate(answer.trace) if stage.name == "generate"]
    if not generations:
        return seconds
    last = generations[-1]
    reading = answer.trace[last].details.get("prefill_seconds")
    before = sum(stage.seconds for stage in answer.trace[:last])
    return before + float(reading) if isinstance(reading, (int, float)) else seconds
