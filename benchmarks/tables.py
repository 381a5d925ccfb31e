"""Writes the measured figures from `benchmarks/results` into the documentation; with `--check`, fails if the pages are stale.

All tables go into `docs/benchmarks.md`, and one table of ten figures into the README.

python -m benchmarks.tables [--check]
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.cells import cell, percent
from benchmarks.compression.table import compression_lines
from benchmarks.end_to_end.table import table_of
from benchmarks.kinds.table import kinds_lines
from benchmarks.routing.table import routing_lines
from benchmarks.training.table import training_lines

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
        f"Recall: the share of questions whose passage is among the first k hits ({origin('retrieval', figures)}):",
        "",
        "| recall@ | " + " | ".join(f"{label} {k}" for label in ("SQuAD", "NQ") for k in (1, 3, 5, 10)) + " |",
        "|---|" + "---|" * 8,
    ]
    for side, label in (("dense", "dense"), ("bm25", "BM25"), ("rrf", "equal rank fusion"), ("hybrid", "**hybrid**")):
        cells = [f"{figures[f'{name}_{side}_recall@{k}']:.3f}" for name in ("squad", "nq") for k in (1, 3, 5, 10)]
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    count = f"{figures['squad_n']} questions over {figures['squad_passages']} passages (SQuAD), "
    return "\n".join([*rows, "", f"{count}{figures['nq_n']} over {figures['nq_passages']} (NQ)."])


EXTRAS = (
    ("no_duplicates", "without near-duplicates"),
    ("diverse_0.1", '`"diverse"`'),
    ("diverse_0.3", "diversity 0.3"),
    ("neighbours", '`"neighbours"`'),
    ("section", '`"section"`'),
    ("multi_query", "two more wordings by a model of 0.5 B"),
)
EXTRA_COLUMNS = ("recall@1", "recall@10", "in_prompt")
COLLECTIONS = (
    ("nq", "NQ"),
    ("squad", "SQuAD"),
    ("squad_articles", "SQuAD, whole articles"),
    ("kinds", "kinds of document"),
)


def extras() -> str:
    figures = load("retrieval")
    about = (
        "What a retriever around the plain one changes, in points: recall@1 / recall@10 / answers in a prompt with 300 tokens of"
        f" sources (`python -m benchmarks.retrieval --only extras`, commit {figures['about']['later']['extras']}). A longer hit has"
        " more answers in it, so the first two columns favour the longer hits:"
    )
    rows = [
        about,
        "",
        "| | " + " | ".join(f"{label} ({figures[f'extras_{name}_n']})" for name, label in COLLECTIONS) + " |",
        "|---|" + "---|" * len(COLLECTIONS),
    ]
    plain = (
        " / ".join(f"{figures[f'extras_{name}_plain_{column}']:.3f}" for column in EXTRA_COLUMNS)
        for name, _ in COLLECTIONS
    )
    rows.append(f"| plain | {' | '.join(plain)} |")
    for extra, label in EXTRAS:
        cells = (
            " / ".join(f"{100 * figures[f'extras_{name}_{extra}_{column}_gain']:+.0f}" for column in EXTRA_COLUMNS)
            for name, _ in COLLECTIONS
        )
        rows.append(f"| {label} | {' | '.join(cells)} |")
    asked = ", ".join(str(figures[f"extras_{name}_multi_query_n"]) for name, _ in COLLECTIONS)
    return "\n".join([*rows, "", f"The last row: {asked} questions."])


def reading() -> str:
    figures = load("reading")
    rows = [
        f"SmolLM2-135M reads all ten hits (full), or a context of 300 tokens (packed) ({origin('reading', figures)}):",
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
    ("prefill_ratio", "1 request: prompt tokens per second"),
    ("decode_ratio", "1 request: generated tokens per second"),
    ("shared8_vs_no_reuse", "8 questions on a context of 800 tokens, compared with `Llama` without reuse"),
    ("shared8_vs_prefix_match", "the same, compared with `Llama` that reuses the last prompt"),
    ("interleaved16_ratio", "16 questions on 4 contexts, in turn"),
    ("batch8_ratio", "8 different short prompts: tokens per second"),
)


def engine() -> str:
    figures = load("engine")
    title = "Speed relative to `llama_cpp.Llama` with the same file, threads and prompts; above 1, leanrag is faster"
    rows = [
        f"{title} ({origin('engine', figures)}, medians of {figures['n']}):",
        "",
        "| SmolLM2-135M | Q4_1, as shipped | requantised to Q4_0 | to Q8_0 |",
        "|---|---|---|---|",
    ]
    for name, label in ENGINE_ROWS:
        copies = (figures.get(f"{kind}_{name}") for kind in ("q4_0", "q8_0"))
        cells = " | ".join("" if value is None else f"{value:.2f}" for value in copies)
        rows.append(f"| {label} | {figures[name]:.2f} | {cells} |")
    sentences = (
        f"If the context was read before, the first token comes {figures['ttft_reuse_ratio']:.0f} times as fast;",
        f"after a restart, with the state on disk, {figures['ttft_disk_ratio']:.0f} times as fast.",
        f"The engine reads prompts with Q4_0 {figures['q4_0_prefill_ratio']:.1f} times as fast as with Q4_1.",
        f"It scores a text at {figures['score_ratio']:.2f} of the speed of reading it.",
        "Qwen2.5-Coder-1.5B copies sentences from a source, in answers of 128 tokens,",
        f"{figures['speculation_ratio']:.2f} times as fast with tokens drafted from the prompt;",
        f"answers without a source come {figures['speculation_ratio@lookup_free']:.2f} times as fast.",
        f"During {figures['rss_requests']:,} mixed requests, resident memory grew by {figures['rss_growth_percent']:.1f} %.",
    )
    return "\n".join([*rows, "", " ".join(sentences)])


GPU_ROWS = (
    ("prefill_2048", "a prompt of 2,048 tokens: tokens per second"),
    ("decode_1", "1 answer: tokens per second"),
    ("decode_1_with_kept_prompts", "the same, while the cache keeps long prompts"),
    ("aggregate_8", "8 answers at once: tokens per second of all"),
    ("aggregate_32", "32 answers at once: tokens per second of all"),
    ("aggregate_128", "128 answers at once: tokens per second of all"),
    ("ttft_ms", "first token on a context of 800 tokens that was read before: milliseconds"),
    ("ask_8_callers_p50", "`ask`, 8 callers at once: seconds (for `Llama`: all hits, read by a shared `Llama`)"),
)


def engine_on_gpu() -> str:
    figures = load("engine_gpu")
    about, machine = figures["about"], figures["about"]["machine"]
    run = f"`python -m benchmarks.engine --device gpu`, commit {about['commit']}, {machine['gpu']}, {machine['cpu']}"
    rows = [
        f"SmolLM2-135M in Q4_0 on a GPU ({run}, medians of {figures['n']}):",
        "",
        "| | leanrag | `llama_cpp.Llama` | only the C functions, without sampling |",
        "|---|---|---|---|",
    ]
    for name, label in GPU_ROWS:
        cells = (_figure(figures.get(f"{side}_{name}")) for side in ("gpu", "llama", "c"))
        rows.append(f"| {label} | {' | '.join(cells)} |")
    memory = f"After {figures['gpu_memory_requests']:,.0f} mixed requests, the used memory of the GPU is "
    return "\n".join([*rows, "", f"{memory}{figures['gpu_memory_growth']:.2f} times the memory after the first 50."])


def engine_on_two_gpus() -> str:
    figures = load("engine_gpus")
    machine, commit = figures["about"]["machine"], figures["about"]["commit"]
    (model,) = figures["about"]["models"]
    run = f"`python -m benchmarks.engine --device gpus`, commit {commit}, {machine['gpu']}, {machine['cpu']}"
    rows = [
        f"{model} ({run}, medians of {figures['n']}):",
        "",
        "| tokens per second | one GPU | two GPUs |",
        "|---|---|---|",
    ]
    pairs = (
        (
            f"{figures['callers']} callers; a copy on each GPU",
            "one_gpu_tokens_per_second",
            "two_gpus_tokens_per_second",
        ),
        ("a prompt; the layers split over both", "one_gpu_prefill", "split_layer_prefill"),
        ("one answer; the layers split", "one_gpu_decode_1", "split_layer_decode_1"),
        ("32 answers at once; the layers split", "one_gpu_answers_32", "split_layer_answers_32"),
    )
    rows += [f"| {label} | {_figure(figures[one])} | {_figure(figures[two])} |" for label, one, two in pairs]
    return "\n".join(rows)


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
        f"Speed of all-MiniLM-L6-v2 on the same texts, relative to torch ({origin('embedding', figures)}, n = {figures['n']}):",
        "",
        "| program | sentences | passages | lowest cosine to torch | first use, s |",
        "|---|---|---|---|---|",
    ]
    for name, label in EMBEDDERS:
        endings = ("_ratio", "_passage_ratio", "_min_cosine", "_first_use_s")
        cells = [figures.get(f"embed_{name}{ending}") for ending in endings]
        texts = ["" if cell is None else f"{cell:.{digits}f}" for cell, digits in zip(cells, (2, 2, 4, 1), strict=True)]
        rows.append(f"| {label} | " + " | ".join(texts) + " |")
    return "\n".join(rows)


def overhead() -> str:
    figures = load("overhead")
    return (
        f"`import leanrag` takes {figures['import_cpu_s']:.3f} s of CPU time more than a bare interpreter. An `ask` takes "
        f"{figures['ask_overhead_p50_ms']:.1f} ms (median) outside of model, embedder and index ({origin('overhead', figures)})."
    )


def servers() -> str:
    figures = load("servers")
    right, tried = figures.get("llama_server_right"), figures.get("llama_server_tried")
    asked = f" {right} of {tried} checks with llama-server of llama.cpp pass." if tried else ""
    return (
        f"`RemoteModel` reads {figures['shapes_read']} of {figures['shapes_tried']} responses in the shapes that vendors document, "
        f"whole and streamed; the `openai` client reads {figures['shapes_read_by_openai']}. It was sent to "
        f"{figures['misbehaviours_tried']} servers that misbehave: {figures['misbehaviours_untyped']} errors were of another "
        f"library, {figures['misbehaviours_hung']} requests hung, and a key was visible in {figures['keys_seen']} logs or errors "
        f"({origin('servers', figures)}).{asked}"
    )


def models() -> str:
    figures = load("models")
    text = (
        f"Greedy tokens of {figures['archs_equal']} of {figures['archs_tried']} pairs of a tiny model and a way (cold, after a"
        " shared beginning, from disk, in a batch, with drafts) equal those of `llama_cpp.Llama`, near-ties apart."
        f" {figures['templates_equal']} of {figures['templates_tried']} renders of chat templates equal those of transformers."
        f" {figures['host_ended']} of {figures['host_tried']:,} changed files ended the process ({origin('models', figures)})."
        "\n\nHeld-out questions, asked for a phrase: packed into 300 tokens, and with all ten hits."
        f" {figures['readers_n']} questions of each data set, so differences of a few tenths say nothing."
        f" Packed prompts have {figures['tokens_ratio']:.0%} of the tokens."
    )
    rows = ["| | exact match, packed / all | F1, packed / all | seconds, packed / all |", "|---|---|---|---|"]
    readers = {"smollm2": "smollm2-135m", "qwen05": "qwen2.5-coder-0.5b", "qwen15": "qwen2.5-coder-1.5b"}
    for reader, name in readers.items():
        for data, label in (("nq", "NQ"), ("squad", "SQuAD 2.0")):
            cells = [
                " / ".join(f"{figures[f'{data}_{reader}_{figure}_{way}']:.2f}" for way in ("packed", "full"))
                for figure in ("em", "f1", "seconds")
            ]
            rows.append(f"| {name}, {label} | {' | '.join(cells)} |")
    return "\n".join([text, "", *rows])


def corpus() -> str:
    figures = load("corpus")
    sizes = [size for size in ("10k", "100k", "1m") if f"hybrid_p50_ms@{size}" in figures]
    rows = [
        f"Folders of so many chunks with vectors; CPU time of all threads ({origin('corpus', figures)}):",
        "",
        "| | " + " | ".join(sizes) + " |",
        "|---|" + "---|" * len(sizes),
    ]
    for name, label, form in (
        ("hybrid_p50_ms", "search by words and meaning, median", "{:.1f} ms"),
        ("filter_p50_ms_worst", "the same with the slowest of three filters", "{:.1f} ms"),
        ("recall10", "recall of the ten nearest vectors", "{:.3f}"),
        ("add_then_search_ms", "add a document and search (on the clock)", "{:.0f} ms"),
        ("first_search_s", "first search after opening (on the clock)", "{:.2f} s"),
        ("rss_gb", "memory that it takes", "{:.2f} GiB"),
        ("disk_bytes_chunk", "disk for a chunk", "{:.0f} bytes"),
    ):
        rows.append(f"| {label} | " + " | ".join(form.format(figures[f"{name}@{size}"]) for size in sizes) + " |")
    if "own_hybrid_ms" in figures:
        rows += ["", "| the same 10,000 chunks | search | add |", "|---|---|---|"]
        names = {"own": "**leanrag**", "llamaindex": "LlamaIndex, bm25s", "txtai": "txtai", "lancedb": "LanceDB"}
        for peer, label in {**names, "sqlite_vec": "sqlite-vec, FTS5"}.items():
            if f"{peer}_hybrid_ms" in figures:
                rows.append(f"| {label} | {figures[f'{peer}_hybrid_ms']:.1f} ms | {figures[f'{peer}_add_s']:.2f} s |")
    return "\n".join(rows)


def chat() -> str:
    figures = load("chat")
    rows = [
        f"Two questions on an article of SQuAD, the second with a pronoun for its entity ({origin('chat', figures)}):",
        "",
        "| passage among the first five | follow-up in the conversation | whole question | follow-up alone |",
        "|---|---|---|---|",
    ]
    for name, label in (("followup", "dialogues"), ("many", "many_dialogues")):
        cells = [f"{figures[f'{name}_recall5{ending}']:.2f}" for ending in ("", "_standalone", "_bare")]
        rows.append(f"| {figures[label]} dialogues | {' | '.join(cells)} |")
    text = (
        f"F1 of SmolLM2-135M on {figures['answered_dialogues']} follow-ups: {figures['f1_history']:.2f} with the turns in the"
        f" prompt, {figures['f1_alone']:.2f} with the completed question alone, {figures['f1_standalone']:.2f} for the whole"
        f" question. The first word of the fifth turn comes {figures['ttft_turn5_ratio']:.1f} times as soon as from a model that"
        f" reads the whole prompt again ({figures['ttft_turn5_seconds']:.1f} s, {figures['ttft_turn5_seconds_no_reuse']:.1f} s;"
        f" Qwen2.5-Coder-0.5B, {figures['turn5_cached_tokens']:.0f} of {figures['turn5_tokens']:.0f} tokens reused, medians of"
        f" {figures['conversations']} conversations)."
    )
    return "\n".join([*rows, "", text])


def serving() -> str:
    figures = load("serving")
    return (
        f"`leanrag serve` with SmolLM2-135M, asked by {figures['serving_clients']} clients at once for a minute"
        f" ({origin('serving', figures)}): {figures['n']} requests, half of them streamed,"
        f" {figures['serving_requests_per_second']:.1f} a second, {figures['serving_p50_s']:.1f} s at the median and"
        f" {figures['serving_p95_s']:.1f} s at the 95th percentile; {figures['serving_lost']} answers lost,"
        f" {figures['serving_mixed']} mixed up, {figures['serving_changed']} in other words than `ask` alone."
        f" A client that is alone waits {figures['serving_http_overhead_ms']:.1f} ms longer than for `ask`, which takes"
        f" {figures['serving_ask_p50_ms']:.0f} ms."
    )


def caching() -> str:
    figures = load("caching")
    rows = [
        f"GPTCache's {figures['gptcache_n']} pairs, without the checks of evidence ({origin('caching', figures)}):",
        "",
        "| cosine from | cosine alone: hits, right | with a margin to the next | and with rules over the words |",
        "|---|---|---|---|",
    ]
    for threshold in (0.9, 0.85, 0.8):
        cells = [
            f"{figures[f'gptcache_{gate}_hits@{threshold}']:.1%}, {figures[f'gptcache_{gate}_precision@{threshold}']:.1%}"
            for gate in ("cosine", "margin", "guards")
        ]
        rows.append(f"| {threshold} | {' | '.join(cells)} |")
    text = (
        f"Of {figures['minimal_pairs_n']} pairs of questions that differ in one thing, {figures['minimal_pair_hits']} are taken"
        f" for the same. On {figures['qqp_n']:,} pairs of Quora the score is more often right than cosine"
        f" at {figures['qqp_better_share']:.0%} of the hit rates from 20 % to 60 %, and {figures['bound_violations']:.1%} of the"
        f" streams of questions exceed the error that was asked for. After a fifth of {figures['stale_n']:,} documents was edited,"
        f" {figures['stale_exact']:.1%} of the answers to equal and {figures['stale_semantic']:.1%} of those to similar"
        f" questions were old. Questions drawn by Zipf's law, of which {figures['zipf_repeat_rate']:.0%} repeat an earlier one,"
        f" cost {figures['zipf_cost_ratio']:.1%} of what they cost without. A hit among {figures['speed_entries']:,} answers"
        f" takes {figures['exact_p50_ms']:.1f} ms (median; 99 %: {figures['exact_p99_ms']:.1f} ms)."
    )
    return "\n".join([*rows, "", text])


def compression_table() -> str:
    figures = load("compression")
    return compression_lines(figures, origin("compression", figures))


def routing_table() -> str:
    figures = load("routing")
    return routing_lines(figures, origin("routing", figures))


def kinds() -> str:
    figures = load("kinds")
    return kinds_lines(figures, origin("kinds", figures))


def desktop() -> str:
    figures = load("desktop")
    return (
        f"While the window of the desktop example indexed and answered {figures['questions']} questions in"
        f" {figures['seconds']:.0f} seconds, the longest time between two turns of its event loop was"
        f" {figures['longest_pause_ms']:.0f} ms ({figures['n']:,} turns; {origin('desktop', figures)})."
    )


def training_table() -> str:
    figures = load("training")
    return training_lines(figures, origin("training", figures))


def _change_of_right(figures: dict[str, Any], name: str) -> str:
    low, middle, high = (100 * figures[f"{name}_accuracy_diff{end}"] for end in ("_low", "", "_high"))
    return f"{middle:+.0f} [{low:+.0f}, {high:+.0f}]"


def _shares_of_right(figures: dict[str, Any], name: str) -> str:
    return ", ".join(cell(figures.get(f"{name}_{way}_right")) for way in ("trained_reader", "b0", "llamaindex"))


def highlights() -> str:
    """Return ten rows of figures, each with the program that measured them."""
    retrieval, engine = load("retrieval"), load("engine")
    compression, routing, overhead = load("compression"), load("routing"), load("overhead")
    corpus, whole = load("corpus"), load("end_to_end")
    asked = f"NQ, SQuAD; n = {whole['nq_n']}, {whole['squad_n']}"
    rows = [
        (
            f"time of an answer, against Qwen2.5-Coder-1.5B with ten whole passages ({asked})",
            f"{whole['nq_latency_ratio']:.0f} and {whole['squad_latency_ratio']:.0f} times as fast",
            "end_to_end",
        ),
        (
            "the same: CPU time; tokens of the prompt",
            (
                f"{whole['nq_cost_ratio']:.0f} and {whole['squad_cost_ratio']:.0f} times less; "
                f"{whole['nq_tokens_ratio']:.1f} and {whole['squad_tokens_ratio']:.1f} times fewer"
            ),
            "end_to_end",
        ),
        (
            "the same: change of the share of right answers, in points [95 % interval]",
            " and ".join(_change_of_right(whole, name) for name in ("nq", "squad")),
            "end_to_end",
        ),
        (
            "the same: share of right answers of leanrag, of that model, and of LlamaIndex with that model",
            " and ".join(_shares_of_right(whole, name) for name in ("nq", "squad")),
            "end_to_end",
        ),
        (
            "search by words and meaning among 10,000 and a million chunks (CPU time, median)",
            f"{corpus['hybrid_p50_ms@10k']:.1f} and {corpus['hybrid_p50_ms@1m']:.1f} ms",
            "corpus",
        ),
        (
            "questions whose passage is among the first ten hits (SQuAD, NQ)",
            f"{percent(retrieval['squad_hybrid_recall@10'])}, {percent(retrieval['nq_hybrid_recall@10'])}",
            "retrieval",
        ),
        (
            f"questions whose answer is still in the 300 tokens packed from {compression['squad_full_tokens']:,.0f} (SQuAD)",
            percent(compression["squad_aic@300"]),
            "compression",
        ),
        (
            (
                "first token on a context seen before, compared with reading it again; "
                "8 questions on one context, compared with `llama_cpp.Llama` without reuse"
            ),
            f"{engine['ttft_reuse_ratio']:.0f} times as soon; {engine['shared8_vs_no_reuse']:.1f} times as fast",
            "engine",
        ),
        (
            f"CPU time that a cascade saves while it reaches {percent(routing['large_cascade_f1_part'])} of the larger model's F1",
            percent(routing["cpu_saved_share"]),
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


SCALE_OUT: tuple[tuple[str, str, str], ...] = (
    (
        "ray_ingest_identical",
        "1 if documents added on Ray have the ids, hashes and vectors (cosine 1) of a local `add`",
        "d",
    ),
    ("serve_overhead_ms", "milliseconds that Ray Serve adds to an answer, median", ".1f"),
    ("chaos_kills", "machines killed, one of three every 20 seconds, while 8 callers ask and documents are added", "d"),
    ("chaos_questions", "the same: questions", "d"),
    ("chaos_wrong", "the same: wrong answers", "d"),
    ("chaos_availability", "the same: share answered, with retries", ".2%"),
    ("chaos_acknowledged", "the same: documents that `add` reported as stored", "d"),
    ("chaos_lost", "the same: those of them that are not stored", "d"),
    ("work_lost_s", "CPU seconds of work that `leanrag add` does twice after SIGTERM in its middle", ".1f"),
    ("spot_stop_s", "seconds from SIGTERM to its end", ".1f"),
    ("simulation_p50_error", "simulated against measured median wait and work", ".0%"),
    ("simulation_p95_error", "the same, 95th percentile", ".0%"),
    ("simulation_replicas_error", "simulated against measured replicas over time", ".0%"),
    (
        "planned_p95_s",
        "planned for 10 M chunks and 100 replicas: p95 in seconds under a peak of five times the load",
        ".2f",
    ),
    ("planned_cost_month", "the same: dollars a month with the prices in the program", ",.0f"),
    ("contract_cases", "cases of the contract of stores, over all engines", ",d"),
    ("contract_failures", "the same: cases that fail", ",d"),
    ("recall_at_10_postgres", "PostgreSQL with pgvector: recall at 10 against an exact search", ".3f"),
    ("recall_at_10_qdrant_edge", "the same, Qdrant Edge", ".3f"),
    ("recall_at_10_milvus_lite", "the same, milvus-lite, which is a stand-in", ".3f"),
)


def scale_out() -> str:
    """Return the figures that were measured; a section is left out where its libraries are not installed."""
    figures = load("scale_out")
    rows = [f"| {label} | {figures[name]:{form}} |" for name, label, form in SCALE_OUT if figures.get(name) is not None]
    head = f"Clusters and engines on this machine ({origin('scale_out', figures)}):"
    return "\n".join([head, "", "| | measured |", "|---|---|", *rows])


def end_to_end() -> str:
    figures = load("end_to_end")
    return table_of(figures, origin("end_to_end", figures))


def pages() -> dict[Path, str]:
    """Return what stands between the marks of each page."""
    tables = {
        "Search": retrieval,
        "More than the plain search": extras,
        "Kinds of document": kinds,
        "Large folders": corpus,
        "Small models reading": reading,
        "Models, files and templates": models,
        "The engine": engine,
        "The engine on a GPU": engine_on_gpu,
        "The engine on two GPUs": engine_on_two_gpus,
        "Embedding": embedding,
        "Overhead": overhead,
        "Caches": caching,
        "Conversations": chat,
        "A server": serving,
        "Servers": servers,
        "The desktop example": desktop,
        "Compression": compression_table,
        "Routing and cascades": routing_table,
        "Training readers": training_table,
    }
    if (HOME / "results" / "end_to_end.json").exists():  # it takes hours
        tables = {"From question to answer": end_to_end, **tables}
    if (HOME / "results" / "scale_out.json").exists():
        tables["Past one machine"] = scale_out
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
