"""How well does the shipped reader answer, and what do distillation, mixed precision and checkpoints give?

The reader is measured through llama.cpp, on questions about articles that no training row was about. The record of the reader names
the articles of its rows: of other slices of the same data sets, that is every question. What needs a GPU is read from `gpu.json` in
this folder, which says what it was measured on.

    python -m benchmarks.training --data DIR --json FILE [--quick] [--only SECTION]
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

import leanrag
from benchmarks.common import finish, parse_arguments, read_nq, read_squad
from benchmarks.models.tiny import write_model
from benchmarks.training.calibrating import measure_calibration
from benchmarks.training.evaluating import REPLY_TOKENS, ask_reader, figures_of, measure_reader
from benchmarks.training.own_folder import measure_own_folder
from benchmarks.training.quantizing import measure_quantizing
from leanrag.llama import LlamaCppModel
from leanrag.metrics import f1
from leanrag.models import resolve, resolve_model
from leanrag.prompting import profile_named
from leanrag.text import without_marks
from leanrag.training import TrainingOptions, load_record
from leanrag.training.base import generate_greedily, load_decoder
from leanrag.training.encoding import EncodedRow
from leanrag.training.loop import evaluate_rows, train_rows
from leanrag.training.lora import add_lora, load_adapter

Figures = dict[str, float | int | None]

READER, LARGE = "smollm2-135m+reader", "qwen2.5-coder-1.5b"
_QUESTIONS, _QUICK = 100, 10  # of a set
_TORCH = 200  # prompts of the comparison with torch
_KILLS = 50
_END_TO_END = 20


def measure_shipped(data: Path, is_quick: bool) -> Figures:
    """Measure the shipped reader through llama.cpp."""
    found = measure_reader(data, READER, _QUICK if is_quick else _QUESTIONS)
    return {name if name == "n" else f"smollm2_{name}": value for name, value in found.items()}


def compare_with_torch(data: Path, is_quick: bool) -> Figures:
    """Compare the replies of torch and of llama.cpp to the same prompts, and their exact matches and refusals.

    torch need not write a reply again if each of its tokens is the most probable one: then it would write the same.
    """
    files = resolve_model(READER)
    asked, replies = ask_reader(data, READER, 1 if is_quick else _TORCH // 5)
    decoder = load_decoder(files.path)
    load_adapter(files.adapters[0], decoder)
    texts = []
    with LlamaCppModel(files.path, n_ctx=1024) as model:
        for each, reply in zip(tqdm(asked, disable=None), replies, strict=True):
            prompt, end = model.encode(list(each.row.prompt)), model.end_token
            written = reply.token_ids or ()
            ending = (end,) if reply.finish_reason == "stop" and written[-1:] != (end,) else ()
            row = EncodedRow(tuple(prompt), (*written, *ending))
            if evaluate_rows(decoder, [row])[1] == 1.0:
                texts.append(reply.text)
                continue
            [computed] = generate_greedily(decoder, [prompt], max_tokens=REPLY_TOKENS, end=end)
            texts.append(model.decode(computed.tokens).strip())
    profile = profile_named(READER)
    assert profile is not None
    ours, theirs = (figures_of(asked, each, profile) for each in ([reply.text for reply in replies], texts))
    names = [name for name in ours if name.endswith(("_em", "_refuses"))]
    return {
        "torch_llamacpp_gap": abs(statistics.fmean(ours[name] - theirs[name] for name in names)),
        "torch_llamacpp_same": statistics.fmean(a.text.strip() == b for a, b in zip(replies, texts, strict=True)),
        "torch_n": len(asked),
    }


def read_gpu_figures(_data: Path, _is_quick: bool) -> Figures:
    """Return what was measured on a GPU."""
    stored = json.loads((Path(__file__).parent / "gpu.json").read_text(encoding="utf-8"))
    figures: Figures = stored["figures"]
    return figures


def kill_and_resume(_data: Path, is_quick: bool) -> Figures:
    """Kill the process of a small training at random moments, and compare its end with that of one that was not killed."""
    source = random.Random(0)
    rows = [EncodedRow(tuple(source.randrange(40, 60) for _ in range(6)), (50, 61)) for _ in range(80)]
    options = TrainingOptions(epochs=4, batch_rows=8, evaluations=8, patience=None, checkpoint_steps=1, device="cpu")
    wanted = 5 if is_quick else _KILLS
    kills = equal = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_model(folder / "tiny.gguf", "llama")

        def run(checkpoint: Path | None) -> float:
            decoder = load_decoder(path)
            add_lora(decoder, rank=4, alpha=8)
            return train_rows(decoder, rows[:64], rows[64:], options, checkpoint=checkpoint).best.loss

        expected = run(None)
        started = time.perf_counter()
        run(folder / "whole.checkpoint")
        seconds = time.perf_counter() - started
        while kills < wanted:
            checkpoint = folder / f"{source.random()}.checkpoint"
            process = multiprocessing.get_context("fork").Process(target=run, args=(checkpoint,))
            process.start()
            process.join(seconds * source.random())
            is_killed = process.is_alive()
            process.kill()
            process.join()
            if is_killed:
                kills += 1
                equal += run(checkpoint) == expected
    return {"resumed_equal": equal / kills, "resumed_n": kills}


def compare_end_to_end(data: Path, is_quick: bool) -> Figures:
    """Compare the reader at 300 tokens with a model of ten times its size that reads all ten passages."""
    seen = frozenset(load_record(resolve_model(READER).adapters[0].with_suffix(".json")).units)
    scores: dict[str, list[float]] = {READER: [], LARGE: []}
    costs: dict[str, list[float]] = {READER: [], LARGE: []}
    count = 1 if is_quick else _END_TO_END // 2
    for questions in (read_nq(data), read_squad(data)):
        titles = {document.id: document.title for document in questions.documents}
        unseen = [each for each in questions.questions if titles[each.document_id] not in seen]
        chosen = unseen[:: max(1, len(unseen) // count)][:count]
        wanted = {question.document_id for question in chosen}
        documents = [d for i, d in enumerate(questions.documents) if d.id in wanted or i % (20 if is_quick else 4) == 0]
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            rags = {name: stack.enter_context(leanrag.open(folder, model=name, k=10)) for name in scores}
            rags[READER].add(*documents, progress=False)
            # Both models answer a question before the next one, so that other work on the machine slows both alike.
            for question in tqdm(chosen, desc=questions.name, disable=None):
                for name, limit in ((READER, 300), (LARGE, None)):
                    answer = rags[name].ask(question.text, style="phrase", context_tokens=limit)
                    scores[name].append(f1(without_marks(answer.text), question.answers))
                    costs[name].append(_seconds(answer))
    return {
        "end_to_end_f1_ratio": statistics.fmean(scores[READER]) / max(1e-9, statistics.fmean(scores[LARGE])),
        "end_to_end_cost_ratio": sum(costs[READER]) / sum(costs[LARGE]),
        "end_to_end_n": len(scores[READER]),
    }


def _seconds(answer: leanrag.Answer) -> float:
    generation = answer.generation
    return 0.0 if generation is None else (generation.prefill_seconds or 0.0) + (generation.decode_seconds or 0.0)


SECTIONS: Mapping[str, Callable[[Path, bool], Figures]] = {
    "reader": measure_shipped,
    "torch": compare_with_torch,
    "gpu": read_gpu_figures,
    "resume": kill_and_resume,
    "calibration": measure_calibration,
    "quantizing": measure_quantizing,
    "own_folder": measure_own_folder,
    "end_to_end": compare_end_to_end,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(__doc__, arguments, sections=tuple(SECTIONS))
    figures: Figures = {}
    for name, measure in SECTIONS.items():
        if options.only in (None, name):
            print(f"== {name}", flush=True)
            found = measure(options.data, options.is_quick)
            for key, value in found.items():
                print(f"{key:32} {value if value is None else round(value, 3)}", flush=True)
            figures |= found
    figures.setdefault("n", len(figures))
    models = {"smollm2-135m": resolve("smollm2-135m"), READER: resolve_model(READER).adapters[0]}
    finish(figures, options.json_path, models=models, is_quick=options.is_quick, only=options.only)


if __name__ == "__main__":
    main()
