"""The tables of the benchmark `compression`, and its other figures in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cells import cell, data_label, later, percent

__all__ = ["compression_lines"]

_BUDGETS = {"squad": (100, 200, 300), "nq": (50, 100, 150)}
_METHODS = {
    "full": "all ten passages",
    "random": "random sentences",
    "topk": "first passages, whole",
    "cut": "passages, cut",
    "bm25": "BM25 sentences",
    "words": "extractive, by words only",
    "": "**extractive**",
    "selective": "Selective-Context",
    "llmlingua": "LLMLingua",
    "longllmlingua": "LongLLMLingua",
    "llmlingua2": "LLMLingua-2",
    "selfinfo": "**self-information**",
    "likelihood": "**extractive, a model reads 12 sentences**",
}


def compression_lines(figures: Mapping[str, Any], origin: str) -> str:
    """Return the text for the documentation.

    Args:
        figures: What the benchmark wrote.
        origin: Which program measured them, and where.
    """
    sections = (
        _answers_in_context(figures, origin),
        _readers(figures),
        [_costs(figures)],
        _kinds(figures),
        _beside_package(figures),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _answers_in_context(figures: Mapping[str, Any], origin: str) -> list[str]:
    rows = [
        "Share of questions whose answer is still in the text after ten retrieved passages were compressed to a number of tokens",
        f"(in the header, counted with cl100k; {origin}):",
        "",
        "| | "
        + " | ".join(f"{data_label(name)} {b}" for name, budgets in _BUDGETS.items() for b in budgets)
        + " | n | s |",
        "|---|" + "---|" * 8,
    ]
    for method, label in _METHODS.items():
        bases = {name: f"{name}_{method}" if method else name for name in _BUDGETS}
        if method == "full":
            cells = [cell(figures.get(f"{name}_full_aic")) for name, budgets in _BUDGETS.items() for _ in budgets]
        else:
            cells = [cell(figures.get(f"{bases[name]}_aic@{b}")) for name, budgets in _BUDGETS.items() for b in budgets]
        counts = [
            figures.get(f"{base}_n") or (method == "full" and figures[f"{name}_n"]) for name, base in bases.items()
        ]
        seconds = [figures.get(f"{base}_s") for base in bases.values()]
        if paired := figures.get(f"{method}_time_s"):  # measured on the same texts, taking turns
            seconds = [paired]
        if not method and (milliseconds := figures.get("extractive_p50_ms")):
            seconds = [milliseconds / 1000]
        rows.append(
            f"| {label} | {' | '.join(cells)} | {' + '.join(map(str, counts)) if all(counts) else '–'} | {_seconds(seconds)} |"
        )
    tokens = " and ".join(f"{figures[f'{name}_full_tokens']:.0f} ({data_label(name)})" for name in _BUDGETS)
    return [
        *rows,
        "",
        f"All ten passages have {tokens} tokens. The methods that need a language model use SmolLM2-135M. On the questions with",
        f"which self-information was measured, extractive reaches {_kept(figures, 'same')}; on those of LLMLingua,",
        f"{_kept(figures, 'same_lingua')}.",
    ]


def _kept(figures: Mapping[str, Any], method: str) -> str:
    return ", ".join(
        " / ".join(cell(value) for b in budgets if (value := figures.get(f"{name}_{method}_aic@{b}")) is not None)
        + f" ({data_label(name)})"
        for name, budgets in _BUDGETS.items()
    )


def _readers(figures: Mapping[str, Any]) -> list[str]:
    rows = [
        "Small models read at most 200 tokens of sources, or all ten passages. Each cell has the share of right answers (the right",
        f"answer is in the text) and F1{later(figures, 'readers')}.",
        "",
        "| reader | all ten passages | nothing | random | passages | cut | filled | packed | + model | packed / all | n |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for reader, label in (("smollm2", "SmolLM2-135M"), ("gemma3", "Gemma 3 270M")):
        for name in ("squad", "nq"):
            base = f"{reader}_{name}"
            ways = [f"{base}_{way}" for way in ("full", "nothing", "random", "topk", "cut", "filled")] + [
                base,
                f"{base}_likelihood",
            ]
            cells = [f"{cell(figures.get(f'{way}_em'))} / {cell(figures.get(f'{way}_f1'))}" for way in ways]
            ratios = [
                f"{cell(figures.get(f'{base}_{measure}_ratio'))} [{cell(figures.get(f'{base}_{measure}_ratio_low'))}, "
                f"{cell(figures.get(f'{base}_{measure}_ratio_high'))}]"
                for measure in ("em", "f1")
            ]
            count = figures.get(f"{base}_n", "–")
            rows.append(f"| {label}, {data_label(name)} | {' | '.join(cells)} | {', '.join(ratios)} | {count} |")
    return rows


def _costs(figures: Mapping[str, Any]) -> str:
    def ms(name: str) -> str:
        return cell(figures.get(f"extractive{name}_ms"), 1)

    return (
        f"The extractive compressor takes {ms('_p50')} ms for {cell(figures.get('extractive_tokens'), 0)} tokens (median; "
        f"95 %: {ms('_p95')} ms).\n"
        f"Without the vector of the question, which a search has computed already, it takes {ms('_rest_p50')} ms "
        f"({ms('_rest_p95')} ms);\nif SmolLM2's tokenizer counts the tokens, {ms('_reader_p50')} ms ({ms('_reader_p95')} ms).\n"
        f"Self-information takes {cell(figures.get('selfinfo_time_ratio'))} of LongLLMLingua's time on the same texts "
        f"(n = {cell(figures.get('selfinfo_time_n'), 0)}).\n"
        f"Of {cell(figures.get('random_n'), 0)} random cases{later(figures, 'random')}, "
        f"{cell(figures.get('over_budget'), 0)} exceeded the budget and "
        f"{cell(figures.get('protected_lost'), 0)} lost protected text.\n"
        f"The share of results that consist of verbatim spans is {cell(figures.get('verbatim_share'), 4)}."
    )


def _kinds(figures: Mapping[str, Any]) -> list[str]:
    """Return the lines about documents of many kinds; none if they were not measured."""
    if figures.get("kinds_kept_extractive") is None:
        return []
    measures = ("kept", "words", "read")
    rows = [
        f"Documents of many kinds (n = {figures['kinds_kept_n']}) and articles (n = {figures['prose_kept_n']}) in 200 tokens,",
        "nothing protected: the share of questions whose whole answer is in the text, the share of the words of the answers, and",
        f"the share of questions that Qwen2.5-Coder-0.5B then answers right{later(figures, 'kinds')}.",
        "",
        "| | kinds: answers | words | answered | articles: answers | words | answered |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, label in (("extractive", "**extractive**"), ("lingua", "LLMLingua"), ("longlingua", "LongLLMLingua")):
        names = (f"{group}_{measure}_{method}" for group in ("kinds", "prose") for measure in measures)
        rows.append(f"| {label} | {' | '.join(cell(figures.get(name)) for name in names)} |")
    return [
        *rows,
        "",
        f"`leanrag.compress` saves {percent(figures.get('pasted_saved'))} of the tokens of whole files without losing the answer.",
    ]


def _beside_package(figures: Mapping[str, Any]) -> list[str]:
    """Return the lines about `PromptCompressor` beside the package; none if they were not measured."""
    if figures.get("lingua_parameters") is None:
        return []
    overlaps = [
        f"{cell(figures[name], 3)} ({label}, n = {figures[f'{name}_n']})"
        for name, label in (
            ("lingua_overlap", "LLMLingua"),
            ("longlingua_overlap", "LongLLMLingua"),
            ("lingua2_overlap", "LLMLingua-2 with a tiny random classifier"),
        )
        if figures.get(name) is not None
    ]
    works, tried = figures["lingua_parameters"], figures["lingua_parameters_tried"]
    lines = [
        f"{works} of {tried} parameters and methods of llmlingua's `PromptCompressor` work{later(figures, 'lingua')}.",
        "The word overlap with the results of the package, on the same model and with nothing protected, is",
        f"{', '.join(overlaps)}.",
    ]
    if (overlap := figures.get("lingua_whole_words_overlap")) is not None:
        lines += [
            "`LLMLinguaCompressor` keeps whole words. Their overlap with the words of which the package keeps at least half is",
            f"{cell(overlap, 3)} (n = {figures['lingua_whole_words_overlap_n']}).",
        ]
    return lines


def _seconds(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.2g}" if known else "–"
