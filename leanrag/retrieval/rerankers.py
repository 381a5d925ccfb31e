"""Rerankers that run on this machine: a cross-encoder, and a language model that says how likely the question is after a text."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrag._optional import require
from leanrag.checks import check_whole
from leanrag.errors import ModelLoadError
from leanrag.protocols import ScoresText
from leanrag.types import Hit, Message, Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CrossEncoderReranker", "ReaderReranker"]

_BATCH = 8
"""Pairs computed together; they are sorted by length first, so little of a batch is padding."""


class CrossEncoderReranker:
    """A model that reads the question and a text together, and scores how well the text answers: an ONNX file.

    `Hit.score` becomes that score, which has no upper limit. Any thread may call; one computes at a time.

    Args:
        path: Folder with `model.onnx` and `tokenizer.json`.
        most: Hits that are scored; those after them keep their order and follow. Each costs about as much time.
        max_tokens: Most tokens of a question with a text; the end of a longer text is not read.
        threads: Threads to compute with; None leaves the number to onnxruntime.

    Raises:
        MissingDependencyError: onnxruntime or tokenizers is not installed.
        ModelLoadError: A file is missing or damaged, or is not of a cross-encoder.

    Example:
        >>> reranker = CrossEncoderReranker(leanrag.models.resolve("ms-marco-minilm-l12-v2"))  # doctest: +SKIP
        >>> rag = leanrag.open("kb", reranker=reranker)  # doctest: +SKIP
    """

    def __init__(
        self, path: str | os.PathLike[str], *, most: int = 20, max_tokens: int = 512, threads: int | None = None
    ) -> None:
        check_whole(1, most=most, max_tokens=max_tokens)
        check_whole(1, optional=True, threads=threads)
        self.path = Path(path)
        self._most = most
        runtime = require("onnxruntime", extra="onnx", why="to rerank with a cross-encoder")
        tokenizers = require("tokenizers", extra="onnx", why="to rerank with a cross-encoder")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        # leave the cores to others while it waits
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(
                str(self.path / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer = tokenizers.Tokenizer.from_file(str(self.path / "tokenizer.json"))
        except Exception as error:  # both libraries raise errors of no common class
            raise ModelLoadError(
                f"cannot load the cross-encoder in {str(self.path)!r}: {error}. The folder must hold model.onnx and "
                "tokenizer.json",
                path=self.path,
                model=self.path.name,
            ) from error
        self._inputs = [each.name for each in self._session.get_inputs()]
        if self._session.get_outputs()[0].shape[1:] != [1]:
            raise ModelLoadError(
                f"the model in {str(self.path)!r} does not return one score for each text. Use a cross-encoder",
                path=self.path,
                model=self.path.name,
            )
        self._tokenizer.enable_truncation(max_tokens, strategy="only_second")
        self._tokenizer.enable_padding()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"CrossEncoderReranker({str(self.path)!r})"

    def rerank(self, question: str, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits, best first; hits with equal scores keep their order."""
        first = hits[: self._most]
        return _in_order(first, self._scores(question, [hit.chunk.full_text for hit in first]), hits[self._most :])

    def _scores(self, question: str, texts: Sequence[str]) -> list[float]:
        scores = np.zeros(len(texts), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with self._lock:
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                scores[rows] = self._run([(question, texts[i]) for i in rows])
        return [float(score) for score in scores]

    def _run(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        encodings = self._tokenizer.encode_batch(pairs)
        columns: dict[str, Any] = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        inputs = {name: np.array(columns[name], np.int64) for name in self._inputs}  # (pairs, tokens)
        return np.asarray(self._session.run(None, inputs)[0], np.float32)[:, 0]


class ReaderReranker:
    """A language model as a reranker: a text is as good as the question is likely after it (Sachan et al., EMNLP 2022).

    `Hit.score` becomes the mean log-probability of the tokens of the question. The model reads every text, which takes about as
    long as answering from all of them: measure before you use it.

    Args:
        model: The model.
        is_chat: Whether the model reads messages; False for a model that completes text.
        most: Hits that are scored; those after them keep their order and follow.
    """

    def __init__(self, model: ScoresText, *, is_chat: bool, most: int = 10) -> None:
        check_whole(1, most=most)
        self._model, self._is_chat, self._most = model, is_chat, most

    def rerank(self, question: str, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits, best first; hits with equal scores keep their order.

        Raises:
            GenerationError: The model failed, or a text is longer than its window.
        """
        first = hits[: self._most]
        results = self._model.score_many([(self._prompt(hit.chunk.full_text), question) for hit in first])
        means = [result.total / max(1, len(result.logprobs)) for result in results]
        return _in_order(first, [score if math.isfinite(score) else -math.inf for score in means], hits[self._most :])

    def _prompt(self, text: str) -> Prompt:
        prompt = f"{text}\n\nWrite a question that the text above answers."
        return [Message("user", prompt)] if self._is_chat else f"{prompt}\nQuestion: "


def _in_order(first: Sequence[Hit], scores: Sequence[float], others: Sequence[Hit]) -> list[Hit]:
    """Return the hits that were scored, best first, and then the others, with the lowest score."""
    lowest = min(scores, default=0.0)
    ranked = sorted(zip(scores, first, strict=True), key=lambda pair: -pair[0])
    return [
        *(dataclasses.replace(hit, score=score) for score, hit in ranked),
        *(dataclasses.replace(hit, score=lowest) for hit in others),
    ]
