"""Make the reader that ships: from the public data to an adapter of SmolLM2-135M.

    python -m benchmarks.training.reader --data DIR --work DIR [--out FILE] [--base qwen2.5-coder-0.5b] [--quick]

1. Questions of the data sets become rows (`preparing`); articles that are held out for measuring become none.
2. A teacher, qwen2.5-coder-0.5b, learns the rows, and answers the questions of `squad-unlabelled` that have no answers. What it is
   sure of, and what stands in the sources, becomes further rows.
3. Two students learn, one the rows alone, the other all rows. The reader is the mean of both.

`--base qwen2.5-coder-0.5b` ends after the teacher has learnt the rows: its adapter is the larger reader. `--quick` runs all steps
on a few questions, with SmolLM2 as the teacher too, in minutes of a CPU; what it makes is of no use.

Each step leaves its files in the work folder and is not done again. A killed run goes on where it was. Making the rows takes half
an hour of a CPU, and the training a quarter of an hour of a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.training.evaluating import REPLY_TOKENS
from benchmarks.training.material import Material, is_held_out, read_material, read_unlabelled
from benchmarks.training.preparing import make_rows, read_rows, write_rows
from leanrag.files import sha256_of
from leanrag.llama import LlamaCppModel
from leanrag.models import resolve
from leanrag.prompting import profile_named
from leanrag.training import TrainingOptions, TrainingRecord
from leanrag.training.base import Decoder, generate_greedily, load_decoder
from leanrag.training.encoding import EncodedRow, encode_rows, hash_rows
from leanrag.training.examples import part_of
from leanrag.training.loop import autocast, train_rows
from leanrag.training.lora import add_lora, average_adapters, load_adapter, write_adapter
from leanrag.training.record import load_record, result_fields, save_record
from leanrag.training.rows import Row
from leanrag.training.running import READER_PROFILE

STUDENT, TEACHER = "smollm2-135m", "qwen2.5-coder-0.5b"
RANK, SEED = 16, 0
OPTIONS = {
    STUDENT: TrainingOptions(learning_rate=1e-3, epochs=3, batch_rows=48, evaluations=12, patience=None, seed=SEED),
    TEACHER: TrainingOptions(learning_rate=5e-4, epochs=2, batch_rows=32, evaluations=8, patience=None, seed=SEED),
}
QUICK_OPTIONS = TrainingOptions(learning_rate=1e-3, epochs=1, batch_rows=4, evaluations=2, patience=None, seed=SEED)
_QUICK_EXAMPLES = 1  # of each data set
_DEVELOPMENT_SHARE, _DEVELOPMENT_SEED, _MAX_DEVELOPMENT = 0.03, 77, 500
_MAX_TOKENS = 640  # of a row
_SURE = -0.3  # mean log-probability of a token of the teacher's reply


def collect_rows(data: Path, work: Path, is_quick: bool) -> dict[str, list[Row]]:
    """Return the rows of each data set; they are made in the first run."""
    profile = profile_named(READER_PROFILE)
    assert profile is not None
    rows = {}
    with LlamaCppModel(resolve(STUDENT), n_ctx=1024) as model:
        for whole in (*read_material(data), read_unlabelled(data)):
            material = _few_examples(whole) if is_quick else whole
            path = work / f"{material.name}.jsonl.gz"
            if not path.exists():
                part = path.with_suffix(".part")
                write_rows(part, make_rows(material, model, profile, work / f"database-{material.name}"))
                part.replace(path)
            rows[material.name] = read_rows(path)
    return rows


def _few_examples(material: Material) -> Material:
    """Return a few examples with their documents."""
    examples = [example for example in material.examples if not is_held_out(example.group)][:_QUICK_EXAMPLES]
    wanted = {example.document_id for example in examples}
    documents = [
        document for i, document in enumerate(material.documents) if document.id in wanted or i < _QUICK_EXAMPLES
    ]
    return dataclasses.replace(material, examples=tuple(examples), documents=tuple(documents))


def divide_rows(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows to learn, and those by which the best parameters are chosen."""
    parts: dict[str, list[Row]] = {"train": [], "development": []}
    for row in rows:
        parts[part_of(row.unit, share=_DEVELOPMENT_SHARE, seed=_DEVELOPMENT_SEED)].append(row)
    random.Random(SEED).shuffle(parts["development"])
    return parts["train"], parts["development"][:_MAX_DEVELOPMENT]


def encode(name: str, rows: Sequence[Row]) -> list[EncodedRow]:
    """Return rows as tokens of a model."""
    with LlamaCppModel(resolve(name), n_ctx=512) as model:
        return encode_rows(
            rows,
            model.encode,
            lambda text: [token for token, _ in model.tokenize(text)],
            end=model.end_token,
            max_tokens=_MAX_TOKENS,
        )


def train(
    name: str,
    shown: Sequence[Row],
    rows: Sequence[EncodedRow],
    development: Sequence[EncodedRow],
    out: Path,
    options: TrainingOptions,
) -> Decoder:
    """Return a model with its trained adapter, which is written to `out` with its record; an earlier run is not repeated.

    Args:
        name: The model.
        shown: What is learnt.
        rows: The same as tokens.
        development: What is measured.
        out: The file of the adapter.
        options: How it is trained.
    """
    decoder = load_decoder(resolve(name))
    if _record_path(out).exists():
        load_adapter(out, decoder)
        return decoder
    add_lora(decoder, rank=RANK, alpha=2 * RANK, seed=SEED)
    with tqdm(desc=out.stem, unit="step", disable=None) as bar:

        def show(step: int, _planned: int) -> None:
            bar.update(step - bar.n)

        checkpoint = out.with_suffix(".checkpoint")
        result = train_rows(decoder, rows, development, options, checkpoint=checkpoint, on_step=show)
    write(out, name, decoder)
    record = TrainingRecord(
        base=name,
        base_sha256=sha256_of(resolve(name)),
        adapter_sha256=sha256_of(out),
        rows=len(rows),
        development_rows=len(development),
        rows_sha256=hash_rows(rows),
        units=tuple(sorted({row.unit for row in shown})),
        rank=RANK,
        figures={},
        device=str(decoder.token_embd.device),
        **result_fields(options, result),  # type: ignore[arg-type]
    )
    save_record(_record_path(out), record)
    checkpoint.unlink()
    print(out.stem, result)
    return decoder


def _record_path(adapter: Path) -> Path:
    return adapter.with_suffix(".json")


def write(out: Path, name: str, decoder: Decoder) -> None:
    write_adapter(
        out,
        decoder,
        base_name=name,
        base_sha256=sha256_of(resolve(name)),
        profile=READER_PROFILE,
        metadata={"general.license": "cc-by-sa-4.0"},
    )


def label(name: str, teacher: Decoder, rows: Sequence[Row], path: Path) -> list[Row]:
    """Return rows with the replies of the teacher: those that it is sure of and that stand in the sources."""
    if not path.exists():
        device = teacher.token_embd.device
        with LlamaCppModel(resolve(name), n_ctx=512) as model:
            with autocast(device, "bf16" if device.type == "cuda" else "fp32"):
                replies = generate_greedily(
                    teacher,
                    [model.encode(list(row.prompt)) for row in rows],
                    max_tokens=REPLY_TOKENS,
                    end=model.end_token,
                )
            texts = [model.decode(reply.tokens).strip() for reply in replies]
        sure = [sum(reply.logprobs) / len(reply.logprobs) >= _SURE for reply in replies]
        path.write_text(json.dumps([text if is_sure else None for text, is_sure in zip(texts, sure, strict=True)]))
    labels = json.loads(path.read_text())
    return [
        dataclasses.replace(row, reply=text)
        for row, text in zip(rows, labels, strict=True)
        if text is not None and stands_in_sources(text, row.prompt[-1].content)
    ]


def stands_in_sources(reply: str, prompt: str) -> bool:
    """Return whether a reply is the refusal, or an answer that is in the prompt word for word."""
    profile = profile_named(READER_PROFILE)
    assert profile is not None
    answer, _, mark = reply.rpartition(" [")
    return profile.refuses(reply) or (bool(answer) and answer in prompt and f"[{mark} " in prompt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LEANRAG_DATA"), help="folder of the data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made on the way")
    parser.add_argument("--out", type=Path, help="file of the reader (default: in the work folder)")
    parser.add_argument("--base", choices=(STUDENT, TEACHER), default=STUDENT, help="model (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="run all steps on a few questions")
    arguments = parser.parse_args()
    work, out = arguments.work, arguments.out or arguments.work / f"{arguments.base}.reader.gguf"
    work.mkdir(parents=True, exist_ok=True)
    teacher_name = STUDENT if arguments.quick and arguments.base == STUDENT else TEACHER
    options = dict.fromkeys(OPTIONS, QUICK_OPTIONS) if arguments.quick else OPTIONS
    by_set = collect_rows(arguments.data, work, arguments.quick)
    unlabelled = by_set.pop("unlabelled")
    learnt, measured = divide_rows([row for rows in by_set.values() for row in rows])
    if arguments.quick:
        measured = measured or learnt[:1]
    teacher = train(
        teacher_name,
        learnt,
        encode(teacher_name, learnt),
        encode(teacher_name, measured),
        out if arguments.base == TEACHER else work / "teacher.gguf",
        options[teacher_name],
    )
    if arguments.base == TEACHER:
        return
    labelled = label(teacher_name, teacher, unlabelled, work / "labels.json")
    development, rows, further = (encode(STUDENT, some) for some in (measured, learnt, labelled))
    first = train(STUDENT, learnt, rows, development, work / "student-1.gguf", options[STUDENT])
    path = work / "student-2.gguf"
    second = train(STUDENT, learnt + labelled, [*rows, *further], development, path, options[STUDENT])
    average_adapters([first, second], second)
    write(out, STUDENT, second)
    save_record(
        _record_path(out), load_record(_record_path(path)).model_copy(update={"adapter_sha256": sha256_of(out)})
    )


if __name__ == "__main__":
    main()
