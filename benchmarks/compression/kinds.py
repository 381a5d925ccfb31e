"""Whether the answer stays at an equal number of tokens, on documents of many kinds and on prose.

Each question gets the same texts: of a kind what search finds, of prose the paragraphs of an article. An answer stays if all
spans that it takes are in the compressed text. Nothing is protected for LLMLingua and LongLLMLingua.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from leanrag.protocols import Compressor, Embedder, TokenCounter

__all__ = ["measure_kinds"]

Figures = dict[str, float | int | None]

COUNTER, EMBEDDER = "qwen2.5-coder-0.5b", "all-minilm-l6-v2"
BUDGET, HITS, PARAGRAPHS = 200, 5, 5
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)  # of a file's tokens


@dataclass(frozen=True, slots=True)
class _Case:
    """A question, the texts, the spans that answer it, and a file that holds them."""

    kind: str
    question: str
    texts: Sequence[str]
    spans: Sequence[str]
    file: str = ""


def _cases_of_kind(kind: Kind, model: LlamaCppModel, embedder: Embedder) -> list[_Case]:
    with opened(kind, model, embedder) as databases:
        return [
            _Case(
                kind.name,
                question.text,
                [hit.chunk.text for hit in databases["default"].search(question.text, HITS)],
                question.spans,
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
        cases.append(_Case("prose", question.text, texts, question.answers[:1]))
    return cases


def _keeps(compressor: Compressor, case: _Case, count_tokens: TokenCounter) -> bool:
    try:
        result = compressor.compress(case.texts, budget=BUDGET, count_tokens=count_tokens, question=case.question)
    except BudgetError:
        return False
    return all(contains_span(result.text, span) for span in case.spans)


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
    with LlamaCppEmbedder(find_embedder(EMBEDDER)) as embedder, LlamaCppModel(resolve(COUNTER)) as model:
        vectors = RememberedVectors(embedder, Path(tempfile.gettempdir()))
        found = [case for kind in kinds for case in _cases_of_kind(kind, model, vectors)]
        cases = [case for case in found if all(any(contains_span(t, span) for t in case.texts) for span in case.spans)]
        cases += _cases_of_prose(data, n_prose)
        methods: dict[str, Compressor] = {"extractive": ExtractiveCompressor(SentenceScorer(SentenceVectors(vectors)))}
        if scorer is not None:
            bare = Protection(kinds=())
            methods["lingua"] = LLMLinguaCompressor(scorer, method="llmlingua", protection=bare, max_calls=1)
            methods["longlingua"] = LLMLinguaCompressor(scorer, method="longllmlingua", protection=bare, max_calls=1)
        kept = {
            name: [_keeps(compressor, case, model.count_tokens) for case in cases]
            for name, compressor in methods.items()
        }
        saved = [_saved(case, model.count_tokens) for case in found]
        vectors.save()
    _print_table(cases, kept)
    figures: Figures = {"kinds_kept_lingua": None, "kinds_kept_longlingua": None, "kinds_kept_n": len(cases) - n_prose}
    for name, values in kept.items():
        of_kinds = [value for case, value in zip(cases, values, strict=True) if case.kind != "prose"]
        of_prose = [value for case, value in zip(cases, values, strict=True) if case.kind == "prose"]
        figures[f"kinds_kept_{name}"] = statistics.fmean(of_kinds) if of_kinds else None
        figures[f"prose_kept_{name}"] = statistics.fmean(of_prose) if of_prose else None
    figures["pasted_saved"] = statistics.fmean(saved)
    print(f"tokens of whole files saved at equal answers: {figures['pasted_saved']:.3f}, n={len(saved)}", flush=True)
    return figures


def _print_table(cases: Sequence[_Case], kept: Mapping[str, Sequence[bool]]) -> None:
    print(
        f"{'answers kept in ' + str(BUDGET) + ' tokens':28} {'n':>4} " + " ".join(f"{name:>11}" for name in kept),
        flush=True,
    )
    for kind in dict.fromkeys(case.kind for case in cases):
        own = [i for i, case in enumerate(cases) if case.kind == kind]
        shares = (statistics.fmean(values[i] for i in own) for values in kept.values())
        print(f"{kind:28} {len(own):>4} " + " ".join(f"{share:11.3f}" for share in shares), flush=True)
