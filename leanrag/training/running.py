"""`train`: from a folder and questions to an adapter that `leanrag.open` takes."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from leanrag._optional import require
from leanrag.errors import ConfigurationError
from leanrag.files import known_sha256, sha256_of
from leanrag.ledger import Prices
from leanrag.llama import LlamaCppModel
from leanrag.llama.files.gguf import read_header
from leanrag.metrics import exact_match, mean
from leanrag.models import resolve, resolve_model, split_name
from leanrag.prompting import profile_named
from leanrag.protocols import Embedder, LanguageModel
from leanrag.text import without_marks
from leanrag.training.encoding import EncodedRow, encode_rows, hash_rows
from leanrag.training.examples import Example, check_examples, divide, read_examples
from leanrag.training.options import TrainingOptions
from leanrag.training.record import TrainingRecord, result_fields, save_record
from leanrag.training.rows import Row, RowMaker, Variant
from leanrag.training.sources import Folder
from leanrag.training.teacher import make_questions
from leanrag.types import Usage

__all__ = ["READER_PROFILE", "TrainingReport", "train"]

READER_PROFILE = "smollm2-135m+reader"
"""The profile by which trained readers are asked."""

_RANK = 16
_MAX_ROW_TOKENS = 1024
_MAX_REPLY_TOKENS = 32
_WITHOUT_SHARE = 0.4  # of the questions with an answer, asked once more without their passage


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """The result of `train`.

    Attributes:
        adapter: The GGUF file of the adapter.
        model: What `leanrag.open` takes as `model`.
        record: What was learnt and measured; it is also in the file `adapter` with `.json` added.
        exact_match_before: Share of the development questions with an answer that the model answers exactly, with the adapter
            that the training began with if there was one.
        exact_match_after: The same after the training.
    """

    adapter: Path
    model: str
    record: TrainingRecord
    exact_match_before: float
    exact_match_after: float


def train(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    questions: str | os.PathLike[str] | Sequence[Example] | None = None,
    teacher: LanguageModel | None = None,
    model: str = "smollm2-135m",
    embedder: str | Embedder = "all-minilm-l6-v2",
    options: TrainingOptions | None = None,
    rank: int | None = None,
    start_from: str | os.PathLike[str] | None = None,
    development_share: float = 0.15,
    prices: Prices | None = None,
    progress: bool | None = None,
) -> TrainingReport:
    """Train a small model to answer questions about a folder, and write the adapter.

    It can be killed at any moment: called again with the same arguments, it goes on. A GPU is used if there is one; on a CPU a
    few hundred questions take minutes to hours, depending on the model.

    Args:
        folder: A folder that `leanrag.open` made, with documents.
        out: The GGUF file to write. Its record is written beside it.
        questions: A file with a JSON object on each line (see `read_examples`), or examples. None has `teacher` make questions.
        teacher: A larger model that makes questions if there are none.
        model: Name or GGUF file of the model to train; its architecture must be llama or qwen2.
        embedder: The embedder of the folder.
        options: How it is trained.
        rank: Rank of the adapter; None is 16, or the rank of `start_from`.
        start_from: An adapter to begin with: the name of a reader, such as "smollm2-135m+reader", or a GGUF file. It needs fewer
            questions than a new adapter.
        development_share: Share of the questions, by document, that are measured and not learnt.
        prices: What the machine costs, for the record.
        progress: Show bars on standard error; by default only if that is a terminal.

    Raises:
        ConfigurationError: There are too few questions, none with an answer, or the model cannot be trained.
        DocumentError: The file of questions is wrong.
        MissingDependencyError: torch is not installed.
        TrainingError: The training cannot go on; the message says why and at which step.
        StorageError: A file cannot be written.
    """
    require("torch", extra="train", why="to train a model")
    options, out, base = options or TrainingOptions(), Path(out), resolve(model)
    start = None if start_from is None else _find_start(start_from, model, rank)
    profile = profile_named(READER_PROFILE)
    assert profile is not None
    source = Folder(folder, embedder)
    try:
        examples = _find_examples(questions, teacher, source, out)
        check_examples(examples)
        with LlamaCppModel(base, adapters=[] if start is None else [start]) as reader:
            maker = RowMaker(source.search, source.scorer, reader.count_tokens, profile)
            learnt, measured = divide(examples, share=development_share, seed=options.seed)
            rows = _make_rows(maker, learnt, without_share=_WITHOUT_SHARE, seed=options.seed, progress=progress)
            measured_rows = _make_rows(maker, measured, without_share=0.0, seed=options.seed, progress=progress)
            if not rows or not measured_rows:
                raise ConfigurationError(
                    f"{len(rows)} rows to learn and {len(measured_rows)} to measure could be made of {len(examples)} questions: "
                    "search found no passage with the answers. Check that the answers stand in the documents word for word"
                )
            before = _share_exact(reader, measured_rows)
            encoded, encoded_measured = _encode(reader, rows), _encode(reader, measured_rows)
    finally:
        source.close()
    record = _run(model, base, out, encoded, encoded_measured, options, rank, start, prices, progress)
    with LlamaCppModel(base, adapters=[out]) as reader:
        after = _share_exact(reader, measured_rows)
    record = record.model_copy(
        update={
            "units": tuple(sorted({row.unit for row in rows})),
            "figures": {"exact_match_before": before, "exact_match_after": after},
        }
    )
    save_record(out.with_name(out.name + ".json"), record)
    return TrainingReport(out, f"{model}+{out}", record, before, after)


def _find_start(start_from: str | os.PathLike[str], model: str, rank: int | None) -> Path:
    """Return the file of the adapter to begin with."""
    path = Path(start_from)
    if not path.is_file():
        base, *adapters = split_name(start_from)
        if base != model or len(adapters) != 1:
            raise ConfigurationError(
                f"`start_from` must be a GGUF file, or the model with one adapter, such as '{model}+reader', got {start_from!r}"
            )
        path = resolve_model(start_from).adapters[0]
    found = next((shape[1] for name, shape in read_header(path).info.shapes.items() if name.endswith(".lora_a")), None)
    if rank not in (None, found):
        raise ConfigurationError(
            f"`rank` is {rank!r}, but {str(path)!r} has the rank {found}, which training keeps. Leave out `rank`"
        )
    return path


def _find_examples(
    questions: str | os.PathLike[str] | Sequence[Example] | None,
    teacher: LanguageModel | None,
    source: Folder,
    out: Path,
) -> Sequence[Example]:
    if questions is None:
        if teacher is None:
            raise ConfigurationError(
                "training needs `questions`, or a `teacher` that makes some, got neither. Pass one of them"
            )
        return make_questions(teacher, source.chunks(), out.with_name(out.name + ".questions.jsonl"))
    return read_examples(Path(questions)) if isinstance(questions, (str, os.PathLike)) else questions


def _make_rows(
    maker: RowMaker, examples: Sequence[Example], *, without_share: float, seed: int, progress: bool | None
) -> list[Row]:
    """Return the rows of examples: with the passage alone and with all that is found, and for some without the passage."""
    rows: list[Row] = []
    for example in tqdm(examples, desc="rows", disable=None if progress is None else not progress):
        variants = [Variant("gold"), Variant("all")]
        if example.answers and random.Random(f"{seed} {example.question}").random() < without_share:
            variants.append(Variant("without"))
        rows += maker.rows(example, variants)
    return rows


def _encode(reader: LlamaCppModel, rows: Sequence[Row]) -> list[EncodedRow]:
    def encode_reply(text: str) -> list[int]:
        return [token for token, _ in reader.tokenize(text)]

    return encode_rows(rows, reader.encode, encode_reply, end=reader.end_token, max_tokens=_MAX_ROW_TOKENS)


def _share_exact(reader: LlamaCppModel, rows: Sequence[Row]) -> float:
    """Return the share of the rows with an answer that a model answers exactly, through llama.cpp."""
    answered = [row for row in rows if row.number]
    if not answered:
        return 0.0
    replies = reader.generate_many([list(row.prompt) for row in answered], max_tokens=_MAX_REPLY_TOKENS)
    return mean(
        exact_match(without_marks(reply.text), row.answers) for reply, row in zip(replies, answered, strict=True)
    )


def _run(
    model: str,
    base: Path,
    out: Path,
    rows: Sequence[EncodedRow],
    measured: Sequence[EncodedRow],
    options: TrainingOptions,
    rank: int | None,
    start: Path | None,
    prices: Prices | None,
    progress: bool | None,
) -> TrainingRecord:
    """Train, write the adapter, and return the record."""
    from leanrag.training.base import load_decoder
    from leanrag.training.loop import train_rows
    from leanrag.training.lora import add_lora, load_adapter, rank_of, write_adapter

    decoder = load_decoder(base)
    if start is None:
        rank = _RANK if rank is None else rank
        add_lora(decoder, rank=rank, alpha=2 * rank, seed=options.seed)
    else:
        load_adapter(start, decoder)
    checkpoint = out.with_name(out.name + ".checkpoint")
    with tqdm(desc="training", unit="step", disable=None if progress is None else not progress) as bar:

        def show(step: int, planned: int) -> None:
            bar.total = planned
            bar.update(step - bar.n)

        result = train_rows(decoder, rows, measured, options, checkpoint=checkpoint, on_step=show)
    base_sha256 = known_sha256(base)
    write_adapter(out, decoder, base_name=model, base_sha256=base_sha256, profile=READER_PROFILE, name=out.stem)
    checkpoint.unlink(missing_ok=True)
    return TrainingRecord(
        base=model,
        base_sha256=base_sha256,
        adapter_sha256=sha256_of(out),
        rows=len(rows),
        development_rows=len(measured),
        rows_sha256=hash_rows(rows),
        units=(),
        rank=rank_of(decoder),
        figures={},
        device=str(decoder.token_embd.device),
        cost=None if prices is None else prices.cost(Usage(0, 0), seconds=result.seconds),
        **result_fields(options, result),  # type: ignore[arg-type]
    )
