"""Whether the answer stays at an equal number of tokens, on documents of many kinds and on prose.

Each question gets the same texts: of a kind what search finds, of prose the paragraphs of an article. Nothing is protected for
LLMLingua and LongLLMLingua. There are three measures:

- "kept": all spans that the answer takes are in the compressed text, each of them contiguous.
- "words": the mean share of the words of these spans that are in the compressed text, wherever they are. A compressor that drops
  words between them loses nothing here.
- "read": a small model reads the compressed text and gives the right answer.
"""

from __future__ import annotations

import re
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks.common import read_squad
from benchmarks.kinds import Kind, make_kinds
from benchmarks.kinds.material import contains_span
from benchmarks.kinds.measuring import RememberedVectors, opened
from leanrag.compression import compress
from leanrag.compression.extractive import ExtractiveCompressor
from leanrag.compression.lingua import LLMLinguaCompressor
from leanrag.errors import BudgetError
from leanrag.evidence.protection import Protection
from leanrag.evidence.scoring import SentenceScorer, SentenceVectors
from leanrag.llama import LlamaCppEmbedder, LlamaCppModel
from leanrag.models import resolve
from leanrag.pipeline.copies import find_embedder
from leanrag.prompting import CHAT_TEMPLATE
from leanrag.protocols import Compressor, Embedder, TokenCounter
from leanrag.text import is_unspaced
from leanrag.types import Chunk, Hit, PackedItem

__all__ = ["measure_kinds"]

Figures = dict[str, float | int | None]

READER, EMBEDDER = "qwen2.5-coder-0.5b", "all-minilm-l6-v2"
BUDGET, HITS, PARAGRAPHS = 200, 5, 5
ANSWER_TOKENS = 48
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)  # of a file's tokens

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class _Case:
    """A question, the texts, the spans that answer it, the shortest right answers, and a file that holds the spans."""

    kind: str
    question: str
    texts: Sequence[str]
    spans: Sequence[str]
    answers: Sequence[str]
    file: str = ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a compressed text is worth for a case; see the measures above."""

    kept: bool
    words: float
    read: bool


def _cases_of_kind(kind: Kind, model: LlamaCppModel, embedder: Embedder) -> list[_Case]:
    with opened(kind, model, embedder) as databases:
        return [
            _Case(
                kind.name,
                question.text,
                [hit.chunk.text for hit in databases["default"].search(question.text, HITS)],
                question.spans,
                [question.answer],
                kind.files[question.files[0]],
            )
            for question in kind.questions
        ]


def _cases_of_prose(data: Path, n: int) -> list[_Case]:
    squad = read_squad(data)
    ids = [document.id for document in squad.documents]
    cases = []
    for question in squad.questions[:: max(1, len(squad.questions) // max(1, n))][:n]:
        at = ids.index(question.document_id)
        first = max(0, at - PARAGRAPHS // 2)
        texts = [document.text for document in squad.documents[first : first + PARAGRAPHS]]
        cases.append(_Case("prose", question.text, texts, question.answers[:1], question.answers))
    return cases


def _compressed(compressor: Compressor, case: _Case, count_tokens: TokenCounter) -> str:
    """Return the compressed text; "" if nothing fits."""
    try:
        return compressor.compress(case.texts, budget=BUDGET, count_tokens=count_tokens, question=case.question).text
    except BudgetError:
        return ""


def _share_of_words(text: str, spans: Sequence[str]) -> float:
    """Return the share of the words of `spans` that are in `text`; a word counts as often as the spans have it."""
    wanted, found = _count_words(" ".join(spans)), _count_words(text)
    return (wanted & found).total() / wanted.total() if wanted else 1.0


def _count_words(text: str) -> Counter[str]:
    """Count the words of a text; in scripts without spaces each character is a word."""
    apart = "".join(f" {character} " if is_unspaced(character) else character for character in text.casefold())
    return Counter(_WORD.findall(apart))


def _measure(compressor: Compressor, case: _Case, reader: LlamaCppModel) -> _Outcome:
    text = _compressed(compressor, case, reader.count_tokens)
    hit = Hit(Chunk("context", 0, len(text), text), 1.0)
    prompt = CHAT_TEMPLATE.build(case.question, [PackedItem(1, hit, text, (), 0)] if text else [])
    reply = reader.generate(prompt, max_tokens=ANSWER_TOKENS, stop=CHAT_TEMPLATE.stop)
    return _Outcome(
        all(contains_span(text, span) for span in case.spans),
        _share_of_words(text, case.spans),
        any(contains_span(reply.text.casefold(), answer.casefold()) for answer in case.answers),
    )


def _saved(case: _Case, count_tokens: TokenCounter) -> float:
    """Return the share of the file's tokens that can be left out without losing the answer."""
    for share in SHARES:
        try:
            text = compress(case.file, question=case.question, rate=share, count_tokens=count_tokens).text
        except BudgetError:
            continue
        if all(contains_span(text, span) for span in case.spans):
            return 1 - share
    return 0.0


def measure_kinds(data: Path, scorer: Path | None, *, n: int, n_prose: int, is_quick: bool) -> Figures:
    """Return the figures.

    Args:
        data: Folder of the data sets.
        scorer: A folder with a causal language model; None to leave LLMLingua out.
        n: Questions of each kind.
        n_prose: Questions of prose.
        is_quick: Whether four kinds must do.
    """
    kinds = make_kinds(data, n=n)[:4] if is_quick else make_kinds(data, n=n)
    with LlamaCppEmbedder(find_embedder(EMBEDDER)) as embedder, LlamaCppModel(resolve(READER)) as model:
        vectors = RememberedVectors(embedder, Path(tempfile.gettempdir()))
        found = [case for kind in kinds for case in _cases_of_kind(kind, model, vectors)]
        cases = [case for case in found if all(any(contains_span(t, span) for t in case.texts) for span in case.spans)]
        cases += _cases_of_prose(data, n_prose)
        methods: dict[str, Compressor] = {"extractive": ExtractiveCompressor(SentenceScorer(SentenceVectors(vectors)))}
        if scorer is not None:
            bare = Protection(kinds=())
            methods["lingua"] = LLMLinguaCompressor(scorer, method="llmlingua", protection=bare, max_calls=1)
            methods["longlingua"] = LLMLinguaCompressor(scorer, method="longllmlingua", protection=bare, max_calls=1)
        outcomes = {
            name: [_measure(compressor, case, model) for case in tqdm(cases, desc=name, disable=None, leave=False)]
            for name, compressor in methods.items()
        }
        saved = [_saved(case, model.count_tokens) for case in found]
        vectors.save()
    figures: Figures = {"kinds_kept_lingua": None, "kinds_kept_longlingua": None, "kinds_kept_n": len(cases) - n_prose}
    for measure in ("kept", "words", "read"):
        values = {name: [float(getattr(outcome, measure)) for outcome in own] for name, own in outcomes.items()}
        _print_table(measure, cases, values)
        for group in ("kinds", "prose"):
            chosen = [i for i, case in enumerate(cases) if (case.kind == "prose") == (group == "prose")]
            for name, own in values.items():
                figures[f"{group}_{measure}_{name}"] = statistics.fmean(own[i] for i in chosen) if chosen else None
    figures |= {"prose_kept_n": n_prose, "pasted_saved": statistics.fmean(saved)}
    print(f"tokens of whole files saved at equal answers: {figures['pasted_saved']:.3f}, n={len(saved)}", flush=True)
    return figures


def _print_table(measure: str, cases: Sequence[_Case], values: Mapping[str, Sequence[float]]) -> None:
    print(f"{f'{measure}, {BUDGET} tokens':28} {'n':>4} " + " ".join(f"{name:>11}" for name in values), flush=True)
    for kind in dict.fromkeys(case.kind for case in cases):
        chosen = [i for i, case in enumerate(cases) if case.kind == kind]
        shares = (statistics.fmean(own[i] for i in chosen) for own in values.values())
        print(f"{kind:28} {len(chosen):>4} " + " ".join(f"{share:11.3f}" for share in shares), flush=True)
