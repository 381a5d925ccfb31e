"""LLMLingua, LongLLMLingua and LLMLingua-2 through the llmlingua package, with the promises of all compressors of leanrag.

The package decides which words matter (`driver`). leanrag applies its choice to the words of the original text and keeps
protected spans whole. Then it removes the least valuable words, or adds the best removed words, until the token count of the
reader is just within the budget.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from leanrag._optional import require
from leanrag.compression.lingua.classifier import ClassifierDriver, TokenClassifier
from leanrag.compression.lingua.driver import (
    Condition,
    Encoded,
    LinguaMethod,
    LinguaOptions,
    LinguaRequest,
    Reorder,
    Verdict,
    clean_text,
    encode,
)
from leanrag.compression.lingua.language_model import language_model_driver
from leanrag.compression.lingua.loading import classifier_window, load_scorer, package_errors, read_config
from leanrag.compression.lingua.plan import Piece, Plan, TokenAtoms, cut_pieces, locate_tokens
from leanrag.compression.task import Part, Task, assemble
from leanrag.errors import CompressionError, ConfigurationError
from leanrag.evidence.protection import Protection
from leanrag.evidence.units import split_units
from leanrag.protocols import CompressionSource, TokenCounter
from leanrag.spans import Span
from leanrag.types import Compression

__all__ = ["LLMLinguaCompressor"]

logger = logging.getLogger(__name__)


WHY = "to compress with LLMLingua"
_NEAR = (
    0.1  # share of the budget; the package is asked again until its choice differs from the budget by less than this
)


class LLMLinguaCompressor:
    """Keeps the words that a small model finds informative.

    It works offline with a local model. Words are kept or dropped whole, and every part of the result is a span of a source, in
    the order of the sources. The target of the package is adjusted until its choice is near the budget. Then the least valuable
    words are removed, or the best dropped words are added, until the token count of the reader is within the budget.

    If a word of a sentence, row or block is kept, the protected spans of this unit are kept too. Spans in `keep` are always kept.

    Without a question, "longllmlingua" works like "llmlingua". A source that the scorer cannot read at
    a time counts as several documents.

    Args:
        model: A folder of transformers with safetensors. For "longllmlingua" and "llmlingua" it must contain a causal language
            model. The papers used Llama-2-7B(-Chat); `dequantize` makes a folder from a GGUF file. For "llmlingua2" it must
            contain a token classifier: the weights named llmlingua-2-xlm-roberta-large-meetingbank or
            llmlingua-2-bert-base-multilingual-cased-meetingbank.
        method: "longllmlingua" reads the question (Jiang et al., ACL 2024), "llmlingua" does not (Jiang et al., EMNLP 2023),
            "llmlingua2" is a classifier trained to keep what GPT-4 kept (Pan et al., Findings of ACL 2024).
        protection: Spans that may not be cut.
        device: "cpu", "cuda", "cuda:1", "mps" ...
        threads: Threads of torch during a call; None does not change them. The setting is for the whole process.
        contrastive: Whether the value of a token is how much the question raises its probability (LongLLMLingua, eq. 2), instead
            of how improbable the token is. None means True for "longllmlingua" and False for the other methods, which cannot do it.
        condition_in_question: How documents are ranked: "after" scores the question after the document (eq. 3, as in the paper),
            "before" scores the document after the question, "none" scores the document alone.
        reorder: Order in which the package reads the documents: "sort" reads the best first, "two_stage" puts the best at both
            ends, "original" keeps the order. None means "sort" for "longllmlingua" and "original" for "llmlingua", as the
            package recommends. The result always has the order of the sources.
        dynamic_ratio: How much more of the best document is kept than of the worst, in [0, 1]: half of it above and half below
            the mean share. LongLLMLingua (eq. 4) uses 0.3. None means 0.3 for "longllmlingua", otherwise 0.
        extra_tokens: Tokens above the target that pass the document filter; the token filter then removes them.
        stretch_tokens: Tokens that the token filter reads at a time. Each stretch is read after the kept tokens of the stretches
            before it.
        document_filter: Whether to drop whole documents first.
        token_filter: Whether to drop tokens of the remaining documents. Without it, whole documents are kept, and the last one
            is cut at its end.
        piece_tokens: Most tokens of a document, counted by the tokenizer of the scorer; a longer source counts as several. None
            for as many as the window of the scorer allows, so that documents are chosen as the package chooses them.
        window_tokens: Most tokens that the scorer reads at a time; fewer if the window of the model is smaller. The
            log-probabilities need up to 16 bytes for each token and each entry of the vocabulary: 1.6 GB for 2,048 tokens and
            49,152 entries.
        max_calls: Most calls of the package for each compression. Documents are ranked only once.

    Raises:
        ConfigurationError: An argument cannot work, or the folder contains another kind of model.
        MissingDependencyError: The extra "lingua" is not installed.
        ModelLoadError: The model in the folder cannot be loaded.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        method: LinguaMethod = "longllmlingua",
        protection: Protection = Protection(),  # noqa: B008 - frozen
        device: str = "cpu",
        threads: int | None = None,
        contrastive: bool | None = None,
        condition_in_question: Condition = "after",
        reorder: Reorder | None = None,
        dynamic_ratio: float | None = None,
        extra_tokens: int = 100,
        stretch_tokens: int = 200,
        document_filter: bool = True,
        token_filter: bool = True,
        piece_tokens: int | None = None,
        window_tokens: int = 2048,
        max_calls: int = 3,
    ) -> None:
        for name, value, allowed in [
            ("method", method, get_args(LinguaMethod)),
            ("condition_in_question", condition_in_question, get_args(Condition)),
            ("reorder", reorder, (*get_args(Reorder), None)),
        ]:
            if value not in allowed:
                raise ConfigurationError(f"`{name}` must be one of {', '.join(map(str, allowed))}, got {value!r}")
        for name, number, least in [
            ("extra_tokens", extra_tokens, 0),
            ("stretch_tokens", stretch_tokens, 16),
            ("piece_tokens", 16 if piece_tokens is None else piece_tokens, 16),
            ("window_tokens", window_tokens, 128),
            ("max_calls", max_calls, 1),
            ("threads", 1 if threads is None else threads, 1),
        ]:
            if number < least:
                raise ConfigurationError(f"`{name}` must be at least {least}, got {number!r}")
        if dynamic_ratio is not None and not 0 <= dynamic_ratio <= 1:
            raise ConfigurationError(f"`dynamic_ratio` must be in [0, 1], got {dynamic_ratio!r}")
        is_long = method == "longllmlingua"
        if not is_long and (contrastive or dynamic_ratio):
            raise ConfigurationError(
                f"`contrastive` and `dynamic_ratio` need the method 'longllmlingua', got {method!r}"
            )
        if not (document_filter or token_filter):
            raise ConfigurationError(
                "`document_filter` and `token_filter` cannot both be False, because nothing would be dropped. Set one to True"
            )
        self._method = method
        self._protection = protection
        self._threads = threads
        self._max_calls = max_calls
        self._piece_tokens = piece_tokens
        self._options = LinguaOptions(
            contrastive=is_long if contrastive is None else contrastive,
            condition_in_question=condition_in_question,
            reorder=reorder or ("sort" if is_long else "original"),
            dynamic_ratio=(0.3 if is_long else 0.0) if dynamic_ratio is None else dynamic_ratio,
            extra_tokens=extra_tokens,
            stretch_tokens=stretch_tokens,
            document_filter=document_filter,
            token_filter=token_filter,
        )
        self._lock = threading.Lock()
        folder = Path(model)
        config = read_config(folder, method)
        self._tokenizer, scorer = load_scorer(folder, method, device)
        model_window = config.get("max_position_embeddings") or config.get("n_positions") or window_tokens
        if method == "llmlingua2":
            family = config["model_type"]
            self._window = classifier_window(config)
            self._driver: Any = ClassifierDriver(
                TokenClassifier(self._tokenizer, scorer, device=device, window=self._window, family=family)
            )
        else:
            self._window = min(window_tokens, model_window)
            self._driver = language_model_driver(self._tokenizer, scorer, device=device, window=self._window)

    @property
    def name(self) -> str:
        """The method."""
        return self._method

    def compress(
        self,
        sources: CompressionSource | Sequence[CompressionSource],
        *,
        count_tokens: TokenCounter,
        budget: int | None = None,
        rate: float | None = None,
        question: str = "",
        keep: Sequence[tuple[int, int]] | Sequence[Sequence[tuple[int, int]]] = (),
    ) -> Compression:
        """Return the sources in at most `budget` tokens, or in the share `rate` of their tokens; see `Compressor.compress`.

        Calls run one after another.

        Raises:
            BudgetError: The spans that must stay do not fit.
            ConfigurationError: An argument cannot work.
            CompressionError: The package or the model failed.
        """
        task = Task.of(sources, count_tokens=count_tokens, budget=budget, rate=rate, question=question, keep=keep)
        if task.fits:
            return task.whole(self.name)
        required = [
            self._protection.required(hit.chunk.text, spans) for hit, spans in zip(task.hits, task.keep, strict=True)
        ]
        exact = [Part(i, *span, None, "kept") for i, spans in enumerate(required) for span in spans]
        needed = task.count(assemble(task.hits, exact)[0])
        if needed > task.budget:
            raise task.too_small(needed)
        plan = Plan.of(task, required, self._protection)
        whole = task.count(plan.text(task, []))
        if whole > task.budget:  # the required spans fit, but not the whole words that they touch
            if any(self._cuts_protected(hit.chunk.text, spans) for hit, spans in zip(task.hits, required, strict=True)):
                raise task.too_small(whole)
            return task.finish(exact, self.name)
        with self._lock, _threads(self._threads):
            try:
                return self._compress(task, plan)
            finally:
                self._driver.forget()

    def _cuts_protected(self, text: str, spans: Sequence[Span]) -> bool:
        """Return whether `spans` (disjoint) contain a part of a protected span, but not the whole span."""
        return bool(spans) and any(
            start < end_of and start_of < end and not (start <= start_of and end_of <= end)
            for start_of, end_of in self._protection.spans(text)
            for start, end in spans
        )

    def _compress(self, task: Task, plan: Plan) -> Compression:
        pieces = self._pieces(task)
        if not pieces:  # the sources have only white space
            return task.finish(plan.parts([]), self.name)
        encoded = encode(self._tokenizer, [task.hits[source].chunk.text[start:end] for source, start, end in pieces])
        tokens = locate_tokens(encoded, pieces, plan)
        steps = plan.steps(tokens, self._search(task, plan, encoded, tokens), self._method)
        low, high = 0, len(steps)
        while low < high:  # `low` steps fit
            middle = (low + high + 1) // 2
            if task.count(plan.text(task, steps[:middle])) <= task.budget:
                low = middle
            else:
                high = middle - 1
        return task.finish(plan.parts(steps[:low]), self.name)

    def _search(self, task: Task, plan: Plan, encoded: Encoded, tokens: TokenAtoms) -> Verdict:
        """Change the target of the package, by the secant method, until the tokens that it keeps are near the budget."""
        count = len(encoded.ids)
        request = LinguaRequest(
            encoded,
            tokens.protected,
            tokens.forced,
            clean_text(task.question),
            "longllmlingua" if self._method == "longllmlingua" else "llmlingua",
            self._options,
            task.count_tokens,
        )
        target = count * task.budget / task.tokens_before
        seen: list[tuple[float, int]] = []  # targets, and the tokens that the package kept
        best: tuple[int, Verdict] | None = None
        while True:
            with package_errors():
                verdict = self._driver.judge(request, target)
            steps = plan.steps(tokens, verdict, self._method)
            got = task.count(plan.text(task, [step for step in steps if step.is_kept]))
            logger.debug("asked llmlingua for %.0f of %d tokens, got %d for %d", target, count, got, task.budget)
            if best is None or abs(got - task.budget) < best[0]:
                best = abs(got - task.budget), verdict
            seen.append((target, got))
            if best[0] <= _NEAR * task.budget or len(seen) == self._max_calls or not self._options.token_filter:
                return best[1]
            target = _secant(seen, task.budget, count)
            if any(abs(target - other) < 1 for other, _ in seen):
                return best[1]

    def _pieces(self, task: Task) -> list[Piece]:
        """Cut the sources into the documents of the package, between sentences if possible."""
        if self._method == "llmlingua2":
            limit = self._window - 2
        else:
            question = len(encode(self._tokenizer, [task.question]).ids) if self._method == "longllmlingua" else 0
            limit = (self._window - question) // 2 - 32
            if limit < 16:
                raise CompressionError(
                    f"the question has {question:,} tokens, which is too many for the scorer's window of {self._window:,} tokens."
                    " Shorten the question, or raise `window_tokens`"
                )
        if self._piece_tokens is not None:
            limit = min(limit, self._piece_tokens)
        pieces: list[Piece] = []
        for number, hit in enumerate(task.hits):
            text = hit.chunk.text
            starts = [unit.start for unit in split_units(text)]
            for start, end in cut_pieces(text, 0, len(text), starts, self._count, limit):
                pieces.append((number, start, end))
        return pieces

    def _count(self, text: str) -> int:
        return len(encode(self._tokenizer, [text]).ids)


def _secant(seen: Sequence[tuple[float, int]], budget: int, count: int) -> float:
    (target, got), before = seen[-1], seen[:-1]
    wanted = target * budget / max(1, got)
    if before and before[-1][1] != got:
        slope = (target - before[-1][0]) / (got - before[-1][1])
        if slope > 0:
            wanted = target + slope * (budget - got)
    return float(min(max(wanted, target / 4, 1), target * 4, count))


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    if count is None:
        yield
        return
    torch = require("torch", extra="lingua", why=WHY)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
