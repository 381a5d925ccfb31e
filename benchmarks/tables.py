"""Write the measured figures into the documentation from `benchmarks/results`; with `--check`, fail when they are stale.

All tables go into `docs/benchmarks.md`, and one table of ten figures into the README.

python -m benchmarks.tables [--check]
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

HOME = Path(__file__).parent
README = HOME.parent / "README.md"
PAGE = HOME.parent / "docs" / "benchmarks.md"
MARKS = re.compile(r"(<!-- tables: [^\n]*-->\n).*?(<!-- end of tables -->)", re.DOTALL)


def load(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((HOME / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return result


def origin(name: str, result: dict[str, Any]) -> str:
    about = result["about"]
    machine = about["machine"]
    return f"`python -m benchmarks.{name}`, commit {about['commit']}, {machine['cpu']}, {machine['threads']} cores"


def retrieval() -> str:
    figures = load("retrieval")
    rows = [
        f"Recall of the passage that a question was asked about ({origin('retrieval', figures)}):",
        "",
        "| recall@ | " + " | ".join(f"{label} {k}" for label in ("SQuAD", "NQ") for k in (1, 3, 5, 10)) + " |",
        "|---|" + "---|" * 8,
    ]
    for side, label in (("dense", "dense"), ("bm25", "BM25"), ("rrf", "equal rank fusion"), ("hybrid", "**hybrid**")):
        cells = [f"{figures[f'{name}_{side}_recall@{k}']:.3f}" for name in ("squad", "nq") for k in (1, 3, 5, 10)]
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    count = f"{figures['squad_n']} questions over {figures['squad_passages']} passages (SQuAD), "
    return "\n".join([*rows, "", f"{count}{figures['nq_n']} over {figures['nq_passages']} (NQ)."])


def reading() -> str:
    figures = load("reading")
    rows = [
        f"SmolLM2-135M reading the whole top 10, and a context packed to 300 tokens ({origin('reading', figures)}):",
        "",
        "| | right (answer contained) full / packed | difference [95 %] | prompt tokens | seconds, packed / full | n |",
        "|---|---|---|---|---|---|",
    ]
    for name, label in (("nq", "NQ"), ("squad", "SQuAD")):
        gain, low, high = (figures[f"{name}_em_gain{end}"] for end in ("", "_low", "_high"))
        interval = f"{gain:+.2f} [{low:+.2f}, {high:+.2f}]"
        rows.append(
            f"| {label} | {figures[f'{name}_em_full']:.2f} / {figures[f'{name}_em_packed']:.2f} | {interval} | "
            f"{figures[f'{name}_tokens_full']:.0f} / {figures[f'{name}_tokens_packed']:.0f} | "
            f"{figures[f'{name}_latency_ratio']:.2f} | {figures[f'{name}_n']} |"
        )
    return "\n".join(rows)


ENGINE_ROWS = (
    ("prefill_ratio", "one request: prompt tokens a second"),
    ("decode_ratio", "one request: generated tokens a second"),
    ("shared8_vs_no_reuse", "8 questions on one context of 800 tokens, against no reuse"),
    ("shared8_vs_prefix_match", "the same, against reuse of the last prompt"),
    ("interleaved16_ratio", "16 questions over 4 contexts, interleaved"),
    ("batch8_ratio", "8 different short prompts: tokens a second"),
)


def engine() -> str:
    figures = load("engine")
    title = "The engine against `llama_cpp.Llama` with the same file, threads and prompts; above 1, leanrag is faster"
    rows = [
        f"{title} ({origin('engine', figures)}, medians of {figures['n']}):",
        "",
        "| SmolLM2-135M | Q4_1, as shipped | requantised to Q4_0 |",
        "|---|---|---|",
    ]
    for name, label in ENGINE_ROWS:
        fast = figures.get(f"q4_0_{name}")
        rows.append(f"| {label} | {figures[name]:.2f} | {'' if fast is None else f'{fast:.2f}'} |")
    sentences = (
        f"A context seen before gives its first token {figures['ttft_reuse_ratio']:.0f} times as soon,",
        f"after a restart, from disk, {figures['ttft_disk_ratio']:.0f} times.",
        f"Q4_0 reads prompts {figures['q4_0_prefill_ratio']:.1f} times as fast as Q4_1.",
        f"Scoring a text runs at {figures['score_ratio']:.2f} of the speed of reading it.",
        f"Over {figures['rss_requests']:,} mixed requests resident memory grew by {figures['rss_growth_percent']:.1f} %.",
    )
    return "\n".join([*rows, "", " ".join(sentences)])


GPU_ROWS = (
    ("prefill_2048", "a prompt of 2,048 tokens: tokens a second"),
    ("decode_1", "one answer: tokens a second"),
    ("aggregate_8", "8 answers at once: tokens a second together"),
    ("aggregate_32", "32 answers"),
    ("aggregate_128", "128 answers"),
    ("ttft_seen_800_p50_ms", "first token on a context of 800 tokens seen before: milliseconds"),
    ("ask_8_callers_p50", "`ask`, 8 callers at once: seconds; beside it, all hits read by a `Llama` that they share"),
)


def engine_on_gpu() -> str:
    figures = load("engine_gpu")
    about, machine = figures["about"], figures["about"]["machine"]
    run = f"`python -m benchmarks.engine --device gpu`, commit {about['commit']}, {machine['gpu']}, {machine['cpu']}"
    rows = [
        f"The engine on a GPU, SmolLM2-135M in Q4_0 ({run}, medians of {figures['n']}):",
        "",
        "| | leanrag | `llama_cpp.Llama` | C functions alone, no sampling |",
        "|---|---|---|---|",
    ]
    for name, label in GPU_ROWS:
        cells = (_figure(figures.get(f"{side}_{name}")) for side in ("gpu", "llama", "c"))
        rows.append(f"| {label} | {' | '.join(cells)} |")
    memory = f"Memory in use on the GPU after {figures['gpu_memory_requests']:,.0f} mixed requests: "
    return "\n".join([*rows, "", f"{memory}{figures['gpu_memory_growth']:.2f} times that after the first 50."])


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


EMBEDDERS = (
    ("torch", "sentence-transformers, torch"),
    ("onnx", "ONNX Runtime"),
    ("llama_f16", "**llama.cpp, F16** (the default)"),
    ("llama_bf16", "llama.cpp, BF16"),
    ("llama_q8_0", "llama.cpp, Q8_0"),
)


def embedding() -> str:
    figures = load("embedding")
    rows = [
        f"all-MiniLM-L6-v2 on the same texts; speeds as ratios to torch ({origin('embedding', figures)}, n = {figures['n']}):",
        "",
        "| run by | sentences | passages | least cosine to torch | first use, s |",
        "|---|---|---|---|---|",
    ]
    for name, label in EMBEDDERS:
        own = f"embed_{name}"
        cells = [
            figures.get(f"{own}{ending}") for ending in ("_ratio", "_passage_ratio", "_min_cosine", "_first_use_s")
        ]
        texts = ["" if cell is None else f"{cell:.{digits}f}" for cell, digits in zip(cells, (2, 2, 4, 1), strict=True)]
        rows.append(f"| {label} | " + " | ".join(texts) + " |")
    return "\n".join(rows)


def overhead() -> str:
    figures = load("overhead")
    return (
        f"`import leanrag` takes {figures['import_cpu_s']:.3f} s of CPU more than a bare interpreter; of an `ask`, "
        f"{figures['ask_overhead_p50_ms']:.1f} ms (median) are leanrag's own, outside model, embedder and index "
        f"({origin('overhead', figures)})."
    )


BUDGETS = {"squad": (100, 200, 300), "nq": (50, 100, 150)}
ROUTERS = {
    "random": "random",
    "length": "length of the question",
    "oracle": "oracle",
    "zero": "zero labels (unseen half)",
    "query": "`QueryRouter`, from the question",
    "cascade": "question and checks of the answer",
}
METHODS = {
    "full": "all ten passages",
    "random": "random sentences",
    "topk": "first passages, whole",
    "cut": "passages, cut",
    "bm25": "BM25 sentences",
    "words": "extractive, words alone",
    "": "**extractive**",
    "selective": "Selective-Context",
    "llmlingua": "LLMLingua",
    "longllmlingua": "LongLLMLingua",
    "llmlingua2": "LLMLingua-2",
    "selfinfo": "**self-information**",
    "likelihood": "**extractive, a model reads 12 sentences**",
}


def routing() -> str:
    figures = load("routing")
    rows = [
        "Which questions to send to a larger model: average performance gap recovered (APGR; 0.5 for a random router), with 95 %",
        f"bootstrap interval, and the share of calls that recover half and 80 % of the gap ({origin('routing', figures)}):",
        "",
        "| | GSM8K APGR | CPT50 / CPT80 | MMLU APGR | CPT50 / CPT80 |",
        "|---|---|---|---|---|",
    ]
    for row, label in ROUTERS.items():
        cells = []
        for task in ("gsm8k", "mmlu"):
            base = f"{task}_{row}"
            low, high = (_cell(figures.get(f"{base}_apgr_{end}"), 3) for end in ("low", "high"))
            is_known = f"{base}_apgr" in figures
            cells.append(f"{_cell(figures.get(f'{base}_apgr'), 3)} [{low}, {high}]" if is_known else "–")
            cells.append(
                " / ".join(_cell(figures.get(f"{base}_cpt{part}"), 1) for part in (50, 80)) if is_known else "–"
            )
        rows.append(f"| {label} | {' | '.join(cells)} |")

    return "\n".join([*rows, "", *_calibration(figures), "", *_cascade(figures)])


def _calibration(figures: dict[str, Any]) -> list[str]:
    return [
        f"Calibration error on rows that were not learnt from: {_cell(figures.get('ece'), 3)} (a perfect forecast would show",
        f"{_cell(figures.get('ece_floor'), 3)}).",
        f"A guaranteed risk was exceeded in {_percent(figures.get('ltt_violation_rate'))} of 200 random splits at worst;",
        "10 % are allowed.",
        f"A decision takes {_cell(figures.get('decision_ms_p50'))} ms (median).",
    ]


def _cascade(figures: dict[str, Any]) -> list[str]:
    def cell(name: str) -> str:
        return _cell(figures.get(name), 3)

    def percent(name: str) -> str:
        return _percent(figures.get(name))

    rows = [
        f"Two models on {figures.get('cascade_n', '–')} questions of SQuAD 2.0, {percent('cascade_unanswerable')} of them without",
        "an answer: SmolLM2-135M with 100 tokens of sources and Gemma 3 270M with 300. What is learnt is applied to other",
        f"paragraphs{_later(figures, 'cascade')}.",
        "",
        "| | right | AUROC of confidence | best single signal | rule without labels | answerable? macro F1 | best single signal |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, label in (("small", "SmolLM2-135M"), ("large", "Gemma 3 270M")):
        gain = (
            f"{cell(f'{name}_auroc_gain')} [{cell(f'{name}_auroc_gain_low')}, {cell(f'{name}_auroc_gain_high')}] more"
        )
        cells = [
            cell(f"{name}_right"),
            f"{cell(f'{name}_fused_auroc')} ({gain})",
            *(cell(f"{name}_{measure}") for measure in ("single_auroc", "rule_auroc", "answerable_macro_f1")),
            cell(f"{name}_answerable_single_macro_f1"),
        ]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return [
        *rows,
        "",
        f"F1 as they answer is {cell('small_f1_plain')} and {cell('large_f1_plain')}; where they abstain below the learnt",
        f"confidence, {cell('small_f1')} and {cell('large_f1')}; never to answer gives {cell('cascade_unanswerable')}.",
        f"A cascade that asks {percent('small_asked')} of the questions and passes on {percent('large_escalated')} gives",
        f"{cell('large_cascade_f1_part')} of the larger model's F1 and saves {percent('cpu_saved_share')}",
        f"[{percent('cpu_saved_share_low')}, {percent('cpu_saved_share_high')}] of the CPU seconds of always asking it. (SmolLM2",
        f"takes {_cell(figures.get('small_cpu_seconds'))} a question, for it writes sentences, Gemma",
        f"{_cell(figures.get('large_cpu_seconds'))}.) To a model that is always right, {percent('perfect_escalated')} must",
        f"be passed on for {cell('perfect_cascade_f1_part')} of its F1.",
    ]


def compression() -> str:
    figures = load("compression")
    return "\n".join([*_answers_in_context(figures), "", *_readers(figures), "", _costs(figures)])


def _answers_in_context(figures: dict[str, Any]) -> list[str]:
    rows = [
        "Share of questions whose answer is still in the text when ten retrieved passages were compressed to so many tokens",
        f"(cl100k; {origin('compression', figures)}):",
        "",
        "| | " + " | ".join(f"{_label(name)} {b}" for name, own in BUDGETS.items() for b in own) + " | n | s |",
        "|---|" + "---|" * 8,
    ]
    for method, label in METHODS.items():
        bases = {name: f"{name}_{method}" if method else name for name in BUDGETS}
        if method == "full":
            cells = [_cell(figures.get(f"{name}_full_aic")) for name, own in BUDGETS.items() for _ in own]
        else:
            cells = [_cell(figures.get(f"{bases[name]}_aic@{b}")) for name, own in BUDGETS.items() for b in own]
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
    tokens = " and ".join(f"{figures[f'{name}_full_tokens']:.0f} ({_label(name)})" for name in BUDGETS)
    return [
        *rows,
        "",
        f"All ten passages are {tokens} tokens. Methods with a model score with SmolLM2-135M. On the questions of self-information",
        f"extractive keeps {_kept(figures, 'same')}; on those of LLMLingua {_kept(figures, 'same_lingua')}.",
    ]


def _kept(figures: dict[str, Any], method: str) -> str:
    return ", ".join(
        " / ".join(_cell(value) for b in own if (value := figures.get(f"{name}_{method}_aic@{b}")) is not None)
        + f" ({_label(name)})"
        for name, own in BUDGETS.items()
    )


def _costs(figures: dict[str, Any]) -> str:
    def ms(name: str) -> str:
        return _cell(figures.get(f"extractive{name}_ms"), 1)

    return (
        f"Compressing {_cell(figures.get('extractive_tokens'), 0)} tokens takes the extractive compressor {ms('_p50')} ms (median; "
        f"95 %: {ms('_p95')}),\n"
        f"{ms('_rest_p50')} ({ms('_rest_p95')}) of them after the question's vector, which a search has made already; "
        f"counted with\nSmolLM2's tokenizer {ms('_reader_p50')} ({ms('_reader_p95')}).\n"
        f"Self-information takes {_cell(figures.get('selfinfo_time_ratio'))} of LongLLMLingua's time on the same texts "
        f"(n = {_cell(figures.get('selfinfo_time_n'), 0)}).\n"
        f"Of {_cell(figures.get('random_n'), 0)} random cases{_later(figures, 'random')} "
        f"{_cell(figures.get('over_budget'), 0)} exceeded the budget and "
        f"{_cell(figures.get('protected_lost'), 0)} lost what was protected;\n"
        f"the share of results made of verbatim spans is {_cell(figures.get('verbatim_share'), 4)}."
    )


def _readers(figures: dict[str, Any]) -> list[str]:
    rows = [
        f"Small readers given 200 tokens at most, or everything: right (answer contained), F1{_later(figures, 'readers')}.",
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
            cells = [f"{_cell(figures.get(f'{way}_em'))} / {_cell(figures.get(f'{way}_f1'))}" for way in ways]
            ratios = [
                f"{_cell(figures.get(f'{base}_{measure}_ratio'))} [{_cell(figures.get(f'{base}_{measure}_ratio_low'))}, "
                f"{_cell(figures.get(f'{base}_{measure}_ratio_high'))}]"
                for measure in ("em", "f1")
            ]
            count = figures.get(f"{base}_n", "–")
            rows.append(f"| {label}, {_label(name)} | {' | '.join(cells)} | {', '.join(ratios)} | {count} |")
    return rows


def _later(figures: dict[str, Any], section: str) -> str:
    commit = figures["about"].get("later", {}).get(section)
    return f" (commit {commit})" if commit else ""


def _label(name: str) -> str:
    return {"squad": "SQuAD", "nq": "NQ"}[name]


def _cell(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _seconds(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.2g}" if known else "–"


def highlights() -> str:
    """Return ten figures, each with the program that measured it."""
    retrieval, packed, engine = load("retrieval"), load("reading"), load("engine")
    compression, routing, overhead = load("compression"), load("routing"), load("overhead")
    rows = [
        (
            "questions whose passage is among the first ten hits (SQuAD, NQ)",
            f"{_percent(retrieval['squad_hybrid_recall@10'])}, {_percent(retrieval['nq_hybrid_recall@10'])}",
            "retrieval",
        ),
        (
            f"questions whose answer is still in the 300 tokens packed from {compression['squad_full_tokens']:,.0f} (SQuAD)",
            _percent(compression["squad_aic@300"]),
            "compression",
        ),
        (
            "tokens that a small model reads: packed; all ten hits (SQuAD)",
            f"{packed['squad_tokens_packed']:,.0f}, {packed['squad_tokens_full']:,.0f}",
            "reading",
        ),
        (
            "time to answer from the packed prompt, as a share of the time with all ten hits (SQuAD)",
            _percent(packed["squad_latency_ratio"]),
            "reading",
        ),
        (
            "change of the share of right answers by packing, in points [95 % interval]",
            (
                f"{100 * packed['squad_em_gain']:+.0f} [{100 * packed['squad_em_gain_low']:+.0f}, "
                f"{100 * packed['squad_em_gain_high']:+.0f}]"
            ),
            "reading",
        ),
        (
            f"compressing {compression['extractive_tokens']:,.0f} tokens by extraction (median)",
            f"{compression['extractive_p50_ms']:.1f} ms",
            "compression",
        ),
        (
            "first token on a context seen before, compared with reading it again",
            f"{engine['ttft_reuse_ratio']:.0f} times as soon",
            "engine",
        ),
        (
            "8 questions on one context, compared with `llama_cpp.Llama` without reuse",
            f"{engine['shared8_vs_no_reuse']:.1f} times as fast",
            "engine",
        ),
        (
            f"CPU time that a cascade saves while it reaches {_percent(routing['large_cascade_f1_part'])} of the larger model's F1",
            _percent(routing["cpu_saved_share"]),
            "routing",
        ),
        (
            "time of `ask` without model, embedder and index (median)",
            f"{overhead['ask_overhead_p50_ms']:.1f} ms",
            "overhead",
        ),
    ]
    lines = [f"| {what} | {value} | `{program}` |" for what, value, program in rows]
    return "\n".join(["| | measured | program |", "|---|---|---|", *lines])


def pages() -> dict[Path, str]:
    """Return what stands between the marks of each page."""
    tables = {
        "Search": retrieval,
        "Small models reading": reading,
        "The engine": engine,
        "The engine on a GPU": engine_on_gpu,
        "Embedding": embedding,
        "Overhead": overhead,
        "Compression": compression,
        "Routing and cascades": routing,
    }
    return {
        README: highlights(),
        PAGE: "\n\n".join(f"## {title}\n\n{table()}" for title, table in tables.items()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the tables are stale")
    arguments = parser.parse_args()
    for page, tables in pages().items():
        before = page.read_text(encoding="utf-8")
        after = MARKS.sub(lambda found, text=tables: f"{found[1]}\n{text}\n\n{found[2]}", before)  # type: ignore[misc]
        if arguments.check and before != after:
            raise SystemExit(f"the tables of {page.name} are stale: run `python -m benchmarks.tables`")
        if not arguments.check:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
