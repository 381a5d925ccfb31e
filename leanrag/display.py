"""Show values as text for terminals, as HTML for notebooks, and as JSON for programs.

Text from documents and models is data: control characters and characters that change the writing direction are shown as
escapes, and HTML is escaped.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leanrag.ledger import KINDS, Baseline, Receipt, Summary, add_costs
from leanrag.types import AddReport, Answer, Citation, Explanation, Hit

__all__ = ["hits_to_text", "printable", "table_to_text", "to_html", "to_json", "to_plain", "to_text"]

_NAMED_FILES = 4  # that were skipped

# C0 controls except tab and newline, DEL, C1 controls, and the characters that change the writing direction
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return `text` with escapes instead of the characters that control a terminal.

    Example:
        >>> printable("a\x1b[2Jb\r\n")
        'a\\x1b[2Jb\n'
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text.replace("\r\n", "\n"))


# JSON


def to_plain(value: Any) -> Any:
    """Return `value` as types that JSON has; an exception becomes its message."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if isinstance(value, (Path, Exception)):
        return str(value)
    return value


def to_json(value: Any) -> str:
    """Return `value` as one line of JSON, in ASCII."""
    return json.dumps(to_plain(value))


# Text


@functools.singledispatch
def to_text(value: object) -> str:
    """Return `value` as text for a terminal: an `Answer` with its quotes and receipt, an `Explanation`, or a report."""
    return printable(str(value))


@to_text.register
def _answer_to_text(answer: Answer) -> str:
    lines = [str(answer), ""]
    for citation in answer.citations:
        lines += [
            f'[{citation.number}] "{_one_line(citation.quote)}"',
            f"    {_origin(citation)}",
        ]
    if answer.citations:
        lines.append("")
    lines += [_receipt(answer), *(f"    {step}" for step in _steps(answer))]
    return printable("\n".join(lines))


def _origin(citation: Citation) -> str:
    location = f", {citation.location}" if citation.location else ""
    return f"{citation.source or citation.title}{location} [{citation.start}:{citation.end}]"


@to_text.register
def _explanation_to_text(explanation: Explanation) -> str:
    packing = explanation.packing
    lines = [
        f"model   {explanation.model}, window {explanation.n_ctx:,} tokens",
        f"prompt  {explanation.prompt_tokens:,} tokens, {explanation.max_tokens:,} reserved for the answer",
        f"sources {packing.tokens:,} of {packing.budget:,} tokens",
    ]
    if explanation.cost:
        lines.append(f"cost    at most {explanation.cost:.6g}")
    lines += [
        f"  [{item.number}] {item.action:9} {item.tokens:4} tokens  {item.hit.chunk.title} "
        + " ".join(f"[{segment.source_start}:{segment.source_end}]" for segment in item.segments)
        for item in packing.items
    ]
    lines += [f"   -  {item.reason:9} {item.tokens:4} tokens  {item.hit.chunk.title}" for item in packing.dropped]
    prompt = explanation.prompt
    lines += ["", prompt if prompt is not None else "nothing was found: no model would be asked"]
    return printable("\n".join(lines))


@to_text.register
def _report_to_text(report: AddReport) -> str:
    failures = [f"failed: {failure.error}" for failure in report.failed]
    left_out = [
        f"left out: {count:,} characters of {name}, which are not text" for name, count in report.left_out.items()
    ]
    return printable("\n".join([_summary(report), *_skipped_line(report), *failures, *left_out]))


def _skipped_line(report: AddReport) -> list[str]:
    """Name the files that were skipped, or the first of them."""
    names = [Path(name).name for name in report.skipped[:_NAMED_FILES]]
    more = len(report.skipped) - len(names)
    named = ", ".join(names) + (f" and {more:,} more" if more else "")
    return [f"skipped, because they are empty or no reader can read them: {named}"] if names else []


@to_text.register
def _receipt_to_text(receipt: Receipt) -> str:
    if receipt.total is None:
        return "the ledger is empty"
    lines = [_text_bar(receipt.stages), "", table_to_text(_receipt_table(receipt, receipt.total))]
    if receipt.baseline is not None:
        lines += ["", _comparison(receipt.baseline, receipt.stages)]
    return printable("\n".join(lines))


def _text_bar(stages: Sequence[Summary]) -> str:
    """Return a bar of letters, one for 2 % of the time, and what the letters stand for."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    shown = list(zip(letters, stages, strict=False))
    bar = "".join(letter * round(stage.share * 50) for letter, stage in shown)
    names = ", ".join(f"{letter} {stage.name} {stage.share:.0%}" for letter, stage in shown)
    return f"time    [{bar}]\n        {names}"


def hits_to_text(hits: Sequence[Hit]) -> str:
    """Return hits as a numbered list, best first, with the offsets of each hit in its document."""
    lines = []
    for number, hit in enumerate(hits, 1):
        chunk = hit.chunk
        lines.append(f"{number}. {chunk.title or chunk.document_id} [{chunk.start}:{chunk.end}]  {hit.score:.3f}")
        lines += ["   " + line for line in chunk.text.strip().splitlines()] + [""]
    return printable("\n".join(lines)) if lines else "nothing was found"


def table_to_text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells in aligned columns; the last column is not padded."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)][:-1]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    return printable("\n".join(lines))


# HTML


@functools.singledispatch
def to_html(value: object) -> str:
    """Return `value` as HTML for a notebook."""
    return f"<pre>{_quoted(to_text(value))}</pre>"


@to_html.register
def _answer_to_html(answer: Answer) -> str:
    quotes = "".join(
        f'<li value="{citation.number}"><q>{_quoted(_one_line(citation.quote))}</q><br>'
        f"<small>{_quoted(_origin(citation))}</small></li>"
        for citation in answer.citations
    )
    steps = "".join(f"<br>{_quoted(step)}" for step in _steps(answer))
    return (
        f"<p>{_paragraph(str(answer))}</p>"
        + (f"<ol>{quotes}</ol>" if quotes else "")
        + f"<p><small>{_quoted(_receipt(answer))}{steps}</small></p>"
    )


@to_html.register
def _report_to_html(report: AddReport) -> str:
    failures = "".join(f"<li>{_quoted(str(failure.error))}</li>" for failure in report.failed)
    return f"<p>{_quoted(_summary(report))}</p>" + (f"<p>failed:</p><ul>{failures}</ul>" if failures else "")


@to_html.register
def _receipt_to_html(receipt: Receipt) -> str:
    if receipt.total is None:
        return f"<p>{_quoted(to_text(receipt))}</p>"
    bar = "".join(
        f'<span title="{_quoted(f"{stage.name}: {stage.share:.1%}")}" style="display:inline-block;height:18px;'
        f'width:{stage.share * 100:.3f}%;background:{_COLORS[i % len(_COLORS)]}"></span>'
        for i, stage in enumerate(receipt.stages)
    )
    names = " ".join(
        f'<span style="border-bottom:3px solid {_COLORS[i % len(_COLORS)]}">{_quoted(stage.name)} {stage.share:.0%}</span>'
        for i, stage in enumerate(receipt.stages)
    )
    head, *rows = _receipt_table(receipt, receipt.total)
    table = "".join(f"<th>{_quoted(cell)}</th>" for cell in head)
    table = f"<tr>{table}</tr>" + "".join(
        "<tr>" + "".join(f"<td>{_quoted(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    baseline = "" if receipt.baseline is None else f"<p>{_paragraph(_comparison(receipt.baseline, receipt.stages))}</p>"
    return (
        f'<div style="width:100%;white-space:nowrap;font-size:0">{bar}</div><p><small>{names}</small></p>'
        f"<table>{table}</table>{baseline}"
    )


_COLORS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f", "#bab0ac")
"""Of the stages in a bar."""


def _quoted(text: str) -> str:
    return html.escape(printable(text))


def _paragraph(text: str) -> str:
    return _quoted(text).replace("\n", "<br>")


# Parts


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _receipt(answer: Answer) -> str:
    usage = answer.usage
    cost = f", cost {answer.cost:.6g}" if answer.cost else ""
    kind = " (calibrated)" if answer.calibrated else ""
    confidence = "" if answer.confidence is None else f", confidence {answer.confidence:.2f}{kind}"
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"
    return f"{answer.model or 'no model asked'}: {tokens}, {answer.seconds:.2f} s{cost}{confidence}"


def _steps(answer: Answer) -> Iterable[str]:
    """Yield a line for each model, if several models were used or the answer abstained."""
    if len(answer.steps) < 2 and not answer.abstained:
        return
    for step in answer.steps:
        confidence = "" if step.confidence is None else f", confidence {step.confidence:.2f}"
        yield f"{step.model}: {step.outcome}, {step.reason}{confidence}"


def _summary(report: AddReport) -> str:
    names = ("added", "updated", "unchanged", "removed", "skipped", "failed")
    counts = [f"{len(getattr(report, name))} {name}" for name in names if getattr(report, name)]
    chunks = "chunk" if report.chunks == 1 else "chunks"
    return f"{', '.join(counts) or 'nothing to do'}; {report.chunks:,} {chunks} in {report.seconds:.1f} s"


def _receipt_table(receipt: Receipt, total: Summary) -> list[tuple[str, ...]]:
    """Return the header, a row for each part, and a row for the whole."""
    head = (receipt.by, "requests", "tokens in", "cached", "tokens out", "seconds", "share", "joules", "cost")
    rows = [_cells(part, part.name or "-") for part in receipt.parts]
    return [head, *rows, _cells(total, "all")]


def _cells(part: Summary, name: str) -> tuple[str, ...]:
    tokens = (part.prompt_tokens, part.cached_tokens, part.completion_tokens)
    return (
        name,
        f"{part.requests:,}",
        *(f"{count:,}" for count in tokens),
        f"{part.seconds:,.2f}",
        f"{part.share:.0%}",
        "unknown" if part.joules is None else f"{part.joules:,.1f}",
        _amount(part.cost),
    )


def _comparison(baseline: Baseline, stages: Sequence[Summary]) -> str:
    """Return what the questions would have cost with the largest model, the full context and no caches, and what they cost."""
    asked = [stage for stage in stages if KINDS.get(stage.name, "maintenance") == "maintenance"]
    prompt, completion = sum(stage.prompt_tokens for stage in asked), sum(stage.completion_tokens for stage in asked)
    seconds, spent = sum(stage.seconds for stage in asked), add_costs(stage.cost for stage in asked)
    return (
        f"without savings ({baseline.basis}: {baseline.model}, full context, no caches): {baseline.seconds:,.2f} s, "
        f"{baseline.prompt_tokens:,} + {baseline.completion_tokens:,} tokens, cost {_amount(baseline.cost)}\n"
        f"as the questions were asked: {seconds:,.2f} s, {prompt:,} + {completion:,} tokens, cost {_amount(spent)}"
    )


def _amount(cost: float | None) -> str:
    return "unknown" if cost is None else f"{cost:.6g}"
