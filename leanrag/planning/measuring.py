"""Measures in seconds what a replica on this machine does: adds documents, and answers questions one by one and at once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import leanrag
from leanrag.errors import ConfigurationError, StorageError
from leanrag.files import RecordFormat, cache_dir, keep_record, read_record
from leanrag.planning.rates import Rates
from leanrag.threads import processor_name, running_elsewhere, usable_cores
from leanrag.types import Document

if TYPE_CHECKING:
    from leanrag.protocols import Embedder, LanguageModel

__all__ = ["measure_rates", "rates_of_this_machine"]

logger = logging.getLogger(__name__)

_FORMAT = RecordFormat(
    "leanrag rates", 1, "file of measured rates", "Remove it; the rates are measured again", is_editable=True
)
_DOCUMENTS = 60
_ALONE = 4  # questions, one after the other
_AT_ONCE = (2, 4, 8)
_SECONDS = 20.0  # for all questions; fewer are asked if they take longer
_BASE_BYTES = 300_000_000  # the library and the embedder, as `doctor` counts them

_NAMES = "Ada Park|Bo Lind|Cem Kaya|Dana Roy|Eva Moro|Finn Ott|Gita Rao|Hugo Sanz|Ines Vidal|Jun Sato".split("|")
_PARTS = "pump|valve|filter|sensor|motor|boiler|cable|gauge|hinge|relay|rotor|switch".split("|")
_WORDS = (
    "the a of and to in is for with on that by this it are be as at from or an was which can has its may not more than when "
    "all one two each other only after before between during every inside near outside under water oil air heat cold steel "
    "copper plastic pressure level speed flow power signal test report night day week month year team room plant line tool "
    "clean check replace open close read write store order ship move turn hold wait start stop new old high low small large"
).split()


def rates_of_this_machine(model: str, *, embedder: str = "all-minilm-l6-v2", again: bool = False) -> Rates:
    """Return the rates of a model on this machine. They are measured once and kept in the cache folder.

    Rates that are measured while other programs use the machine are not kept; a warning is logged.

    Args:
        model: A name that `leanrag list` shows, or a GGUF file.
        embedder: The same for the embedder.
        again: Measure even if there are rates.

    Raises:
        ConfigurationError: A name is unknown.
        ModelLoadError: A model is not on this machine, or cannot be loaded.
    """
    from leanrag.llama.model import LlamaCppModel
    from leanrag.models import resolve_model
    from leanrag.pipeline.loading import closed_with, load_embedder, load_language_model

    files = resolve_model(model)
    machine = f"{processor_name()}, {usable_cores()} cores, {platform.system()}"
    key = hashlib.sha256("\n".join([model, embedder, machine, leanrag.__version__, str(files.path)]).encode())
    path = cache_dir() / "rates" / f"{key.hexdigest()[:16]}.json"
    if path.exists() and not again:
        try:
            return read_record(path, Rates, _FORMAT)
        except (StorageError, ConfigurationError) as error:
            logger.warning("the rates are measured again: %s", error)
    is_busy = _is_busy()  # before it is busy with the measuring
    if is_busy:
        logger.warning(
            "this machine is busy, so the rates are too low; they are not kept. Measure again when it is idle"
        )
    with contextlib.ExitStack() as stack:
        reader = closed_with(stack, load_language_model(model))
        rates = measure_rates(reader, closed_with(stack, load_embedder(embedder)))
        gpus = len(reader.placement.devices) if isinstance(reader, LlamaCppModel) else 0
    memory = LlamaCppModel.estimate(files.path)
    rates = rates.model_copy(
        update={
            "model": model,
            "machine": machine,
            "weights_bytes": memory.weights,
            "replica_bytes": _BASE_BYTES + memory.cache + memory.compute,
            "gpus": gpus,
        }
    )
    if not is_busy:
        keep_record(path, rates, _FORMAT, failure="the rates were not saved")
    return rates


def measure_rates(
    model: LanguageModel,
    embedder: Embedder,
    *,
    at_once: Sequence[int] = _AT_ONCE,
    documents: int = _DOCUMENTS,
    seconds: float = _SECONDS,
) -> Rates:
    """Measure a replica: add made documents to a temporary folder, and ask about them.

    Args:
        model: Answers.
        embedder: Embeds.
        at_once: Numbers of questions that are asked at once.
        documents: Documents to add, at least 2.
        seconds: Time for all questions. Two are asked one after the other in any case; numbers of questions at once that would
            take longer are left out.

    Returns:
        The rates without the memory of the model, which its files tell.
    """
    made = [_document(number) for number in range(documents)]
    half = documents // 2
    with tempfile.TemporaryDirectory() as folder, leanrag.open(folder, model=model, embedder=embedder) as rag:
        rag.add(*made[:half], progress=False)
        first = rag.stats()
        began = time.perf_counter()
        rag.add(*made[half:], progress=False)
        adding_seconds = time.perf_counter() - began
        last = rag.stats()
        alone, speedup = _ask(rag, [_question(number) for number in range(documents)], at_once, seconds)
    chunks = last.chunks - first.chunks
    mean = statistics.fmean(alone)
    return Rates(
        model=model.name,
        question_seconds=mean,
        variation=statistics.pstdev(alone) / mean,
        speedup=speedup,
        add_seconds_chunk=adding_seconds / chunks,
        disk_bytes_chunk=max((last.size_bytes - first.size_bytes) / chunks, 4 * embedder.dim),  # at least the vector
        dim=embedder.dim,
        cores=usable_cores(),
    )


def _ask(
    rag: Any, questions: Sequence[str], at_once: Sequence[int], seconds: float
) -> tuple[list[float], dict[int, float]]:
    """Return the seconds of questions that are alone, and how many times as many are answered if several are asked at once."""
    rag.ask(questions[-1])  # the first question loads and compiles
    until = time.perf_counter() + seconds
    alone: list[float] = []
    for question in questions[:_ALONE]:
        if len(alone) >= 2 and sum(alone) > seconds / 2:
            break
        began = time.perf_counter()
        rag.ask(question)
        alone.append(time.perf_counter() - began)
    mean, speedup, start = statistics.fmean(alone), {1: 1.0}, _ALONE
    for count in at_once:
        if time.perf_counter() + mean * count / max(speedup.values()) > until:
            break
        asked = [questions[(start + i) % len(questions)] for i in range(count)]
        start += len(asked)
        began = time.perf_counter()
        rag.ask_many(asked, parallel=count)
        speedup[count] = mean * len(asked) / (time.perf_counter() - began)
    return alone, speedup


def _document(number: int) -> Document:
    random = np.random.default_rng(number)
    lines = [" ".join(random.choice(_WORDS, 12)).capitalize() + "." for _ in range(7)]
    lines.insert(int(random.integers(8)), _fact(number))
    return Document(" ".join(lines), id=f"unit-{number}", title=f"Unit {number}")


def _fact(number: int) -> str:
    name, part = _NAMES[number % len(_NAMES)], _PARTS[number % len(_PARTS)]
    return f"{name} checks the {part} of unit {number} every {7 + number % 23} days."


def _question(number: int) -> str:
    return f"Who checks the {_PARTS[number % len(_PARTS)]} of unit {number}?"


def _is_busy() -> bool:
    """Return whether other programs compute on more than half of the cores."""
    return running_elsewhere() > usable_cores() / 2
