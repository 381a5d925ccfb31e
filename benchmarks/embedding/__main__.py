"""Does an embedder without torch give the same vectors, and how fast? torch, llama.cpp and, where installed, ONNX Runtime.

All run the same weights on the same texts with as many threads, taking turns, and each is first used in a fresh process. The texts
are sentences of SQuAD passages (short), and whole passages cut to 120 words (long). Texts a CPU second can be compared on a
machine that does other work as well.

    python -m benchmarks.embedding --data DIR --json FILE [--quick]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks.common import finish, parse_arguments, read_squad
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.llama.files.convert import convert_bert
from leanrag.llama.files.quantize import quantize
from leanrag.models import resolve
from leanrag.protocols import Embedder
from leanrag.retrieval.embedding import SentenceTransformerEmbedder
from leanrag.text import split_sentences
from leanrag.threads import usable_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Embed = Callable[[Sequence[str]], NDArray[np.float32]]

MODEL = "all-minilm-l6-v2"
TYPES: tuple[Literal["f32", "f16", "bf16"], ...] = ("f32", "f16", "bf16")
THREADS = usable_cores()
ROUNDS, FIRST_USES = 5, 3
SENTENCES, QUICK_SENTENCES = 1000, 200
PASSAGES, QUICK_PASSAGES = 200, 40
PASSAGE_WORDS = 120
PAUSE_SECONDS = 0.5  # between two embedders: threads that were used last look for work for a while
QUERIES = 30  # of the sentences, one at a time, in each round

FIRST_USE = """
import re, sys, time
from pathlib import Path
started = time.perf_counter()
if sys.argv[1] == "torch":
    from leanrag.retrieval.embedding import SentenceTransformerEmbedder as Embedder
else:
    from leanrag.llama.embedder import LlamaCppEmbedder as Embedder
embedder = Embedder(sys.argv[2], threads=int(sys.argv[3]))
embedder.embed_queries(["What is a closure?"])
seconds = time.perf_counter() - started
status = Path("/proc/self/status")  # not getrusage: its peak begins with that of the parent process
peak = re.search(r"VmHWM:\\s*(\\d+) kB", status.read_text()) if status.exists() else None
print(seconds, int(peak[1]) / 1024 if peak else "nan")
"""


def read_texts(data: Path, embedder: Embedder, sentences: int, passages: int) -> tuple[list[str], list[str]]:
    """Return distinct sentences and passages that the embedder can read, spread evenly over the data set."""
    documents = read_squad(data).documents
    found = [text.text[start:end] for text in documents for start, end in split_sentences(text.text)]
    cut = [" ".join(document.text.split()[:PASSAGE_WORDS]) for document in documents]
    fitting = [[text for text in texts if embedder.count_tokens(text) <= embedder.max_tokens] for texts in (found, cut)]
    return _spread(fitting[0], sentences), _spread(fitting[1], passages)


def _spread(texts: Sequence[str], count: int) -> list[str]:
    distinct = list(dict.fromkeys(texts))
    return distinct[:: max(1, len(distinct) // count)][:count]


def onnx_embedder(encoder: Any, folder: Path, target: Path) -> Embed | None:
    """Export torch's encoder and return what embeds with it; None, with a line that says why, where that cannot be done."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    try:
        import onnxruntime
        import torch
        from tokenizers import Tokenizer

        class Hidden(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.encoder = encoder

            def forward(self, *inputs: Any) -> Any:
                return self.encoder(**dict(zip(names, inputs, strict=True))).last_hidden_state

        ids = torch.ones((2, 8), dtype=torch.long)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Hidden().eval(),
                (ids, torch.ones_like(ids), torch.zeros_like(ids)),
                str(target),
                input_names=list(names),
                output_names=["hidden"],
                dynamic_axes={name: {0: "n", 1: "length"} for name in names},
                dynamo=False,  # the exporter that replaces it needs onnxscript
            )
    except Exception as error:  # noqa: BLE001 - whatever it is, the other figures stand
        print(f"onnx: not measured: {type(error).__name__}: {str(error)[:200]}")
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)

    def embed(texts: Sequence[str], batch: int = 32) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = np.empty((len(texts), 384), np.float32)
        tokenizer.enable_padding()
        for start in range(0, len(order), batch):
            numbers = order[start : start + batch]
            encodings = tokenizer.encode_batch([texts[i] for i in numbers])
            ids = np.array([encoding.ids for encoding in encodings], np.int64)  # (b, length)
            mask = np.array([encoding.attention_mask for encoding in encodings], np.int64)  # (b, length)
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = session.run(None, inputs)[0]  # (b, length, dim)
            weights = mask[..., None].astype(np.float32)
            rows[numbers] = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    return embed


def speeds(embedders: Mapping[str, Embed], texts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return texts a second and texts a CPU second `(2, rounds)` of each embedder; they take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in embedders}
    for _ in range(ROUNDS):
        for name, embed in embedders.items():
            time.sleep(PAUSE_SECONDS)
            embed(texts[:4])  # wakes its threads
            started, started_cpu = time.perf_counter(), time.process_time()
            embed(texts)
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
            found[name].append((len(texts) / seconds, len(texts) / cpu_seconds))
    return {name: np.array(rows).T for name, rows in found.items()}


def query_milliseconds(embedders: Mapping[str, Embed], texts: Sequence[str]) -> dict[str, float]:
    """Return the median time of one text alone."""
    found: dict[str, list[float]] = {name: [] for name in embedders}
    for _ in range(ROUNDS):
        for name, embed in embedders.items():
            time.sleep(PAUSE_SECONDS)
            embed(texts[:1])
            for text in texts[:QUERIES]:
                started = time.perf_counter()
                embed([text])
                found[name].append(1000 * (time.perf_counter() - started))
    return {name: float(np.median(times)) for name, times in found.items()}


def first_uses(paths: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Return seconds (the median) and MiB (the peak) of import, load and one query, each in a process of its own."""
    found: dict[str, list[list[float]]] = {name: [] for name in paths}
    for _ in range(FIRST_USES + 1):
        for name, path in paths.items():
            command = [sys.executable, "-c", FIRST_USE, name, str(path), str(THREADS)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[name].append([float(figure) for figure in done.stdout.split()])
    medians = {name: np.median(rows[1:], axis=0) for name, rows in found.items()}  # the first warms the file cache
    return {name: {"seconds": float(row[0]), "mib": float(row[1])} for name, row in medians.items()}


def measure(embedders: Mapping[str, Embed], sentences: Sequence[str], passages: Sequence[str]) -> dict[str, float]:
    """Return speeds and the least cosine to torch."""
    figures: dict[str, float] = {}
    for kind, texts in (("", sentences), ("passage_", passages)):
        expected = embedders["torch"](texts)
        for name, embed in embedders.items():
            figures[f"embed_{name}_{kind}min_cosine"] = float((embed(texts) * expected).sum(axis=1).min())
        rounds = speeds(embedders, texts)
        for name, (wall, cpu) in rounds.items():
            ratio, cpu_ratio = (
                np.median(mine / torch) for mine, torch in zip((wall, cpu), rounds["torch"], strict=True)
            )
            figures |= {
                f"embed_{name}_{kind}texts_per_s": float(np.median(wall)),
                f"embed_{name}_{kind}texts_per_cpu_s": float(np.median(cpu)),
                f"embed_{name}_{kind}ratio": float(ratio),
                f"embed_{name}_{kind}cpu_ratio": float(cpu_ratio),
            }
            print(
                f"{kind or 'sentence_':10} {name:11} {np.median(wall):7.1f} texts/s [{min(wall):.1f}, {max(wall):.1f}] x{ratio:.2f}"
                f"   {np.median(cpu):6.1f} texts/CPU s [{min(cpu):.1f}, {max(cpu):.1f}] x{cpu_ratio:.2f}"
                f"   least cosine {figures[f'embed_{name}_{kind}min_cosine']:.6f}"
            )
    return figures


def main() -> None:
    arguments = parse_arguments(__doc__)
    counts = (QUICK_SENTENCES, QUICK_PASSAGES) if arguments.is_quick else (SENTENCES, PASSAGES)
    folder = resolve(MODEL)
    with tempfile.TemporaryDirectory() as temporary:
        paths = {"torch": folder}
        for type_name in TYPES:
            target = Path(temporary) / f"{MODEL}-{type_name}.gguf"
            paths[f"llama_{type_name}"] = convert_bert(folder, target, type=type_name)
        paths["llama_q8_0"] = Path(temporary) / f"{MODEL}-q8_0.gguf"
        quantize(paths["llama_f32"], paths["llama_q8_0"], type="q8_0", threads=THREADS)
        first = first_uses(paths)  # before this process has threads of its own
        models: dict[str, Any] = {"torch": SentenceTransformerEmbedder(folder, threads=THREADS)}
        models |= {name: LlamaCppEmbedder(path, threads=THREADS) for name, path in paths.items() if name != "torch"}
        sentences, passages = read_texts(arguments.data, models["torch"], *counts)
        embedders: dict[str, Embed] = {name: model.embed_documents for name, model in models.items()}
        encoder = models["torch"]._model[0].auto_model
        if (onnx := onnx_embedder(encoder, folder, Path(temporary) / "model.onnx")) is not None:
            embedders["onnx"] = onnx
        figures = measure(embedders, sentences, passages)
        for name, milliseconds in query_milliseconds(embedders, sentences).items():
            figures[f"embed_{name}_query_ms"] = milliseconds
        for name, figure in first.items():
            figures[f"embed_{name}_first_use_s"] = figure["seconds"]
            figures[f"embed_{name}_first_use_mib"] = figure["mib"]
            print(f"first use  {name:12} {figure['seconds']:8.2f} s  {figure['mib']:8.0f} MiB")
        figures["embed_llama_ratio"] = figures["embed_llama_f16_ratio"]
        figures["embed_llama_cpu_ratio"] = figures["embed_llama_f16_cpu_ratio"]
        figures["embed_min_cosine"] = min(
            figures["embed_llama_f16_min_cosine"], figures["embed_llama_f16_passage_min_cosine"]
        )
        finish(
            {**figures, "embed_threads": THREADS, "n_passages": len(passages), "n": len(sentences)},
            arguments.json_path,
            models=paths,
            is_quick=arguments.is_quick,
        )


if __name__ == "__main__":
    main()
