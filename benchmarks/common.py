"""Code that all benchmarks share: arguments, data sets, and the line of figures at the end."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from leanrag.threads import processor_name
from leanrag.types import Document

__all__ = [
    "Arguments",
    "Figures",
    "Measure",
    "Question",
    "Questions",
    "file_hash",
    "finish",
    "parse_arguments",
    "read_nq",
    "read_squad",
    "run_sections",
]

Figures = dict[str, float | int | None]

Measure = Callable[[Path, bool], Figures]
"""Measures a section. It takes the folder of the data sets, and whether a minute must do."""

_PACKAGES = ("leanrag", "llama-cpp-python", "faiss-cpu", "numpy", "torch", "sentence-transformers")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line said.

    Attributes:
        data: Folder of the data sets.
        json_path: File for the figures, or None.
        is_quick: Whether a minute must do; the figures then say how few questions they rest on.
        only: The section to measure; None for all.
        flags: Options of this benchmark alone that were set.
        options: Values of the options of this benchmark alone, by name; "" for an option that was not set.
    """

    data: Path
    json_path: Path | None
    is_quick: bool
    only: str | None = None
    flags: frozenset[str] = frozenset()
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a data set.

    Attributes:
        text: The question.
        answers: Accepted answers; none when it cannot be answered.
        document_id: The passage it was asked about.
    """

    text: str
    answers: tuple[str, ...]
    document_id: str


@dataclass(frozen=True, slots=True)
class Questions:
    """A data set: every passage is a document of the corpus."""

    name: str
    documents: tuple[Document, ...]
    questions: tuple[Question, ...]


def parse_arguments(
    description: str | None,
    arguments: Sequence[str] | None = None,
    *,
    sections: Sequence[str] = (),
    flags: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Arguments:
    """Return the arguments of a benchmark; exits with a message when they are wrong.

    Args:
        description: Of the benchmark.
        arguments: Of the command line; None for those of this process.
        sections: Names for `--only`.
        flags: Further options that are set or not, each with its help.
        options: Further options with a value, each with its help.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=os.environ.get("LEANRAG_DATA"), help="folder of the data sets")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--quick", action="store_true", help="fewer questions, under a minute")
    if sections:
        parser.add_argument("--only", choices=sections, help="measure one section anew; the other figures of FILE stay")
    for name, text in (flags or {}).items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    for name, text in (options or {}).items():
        parser.add_argument(f"--{name}", default="", help=text)
    values = parser.parse_args(arguments)
    if values.data is None or not Path(values.data).is_dir():
        parser.error(f"--data (or LEANRAG_DATA) must name the folder of the data sets, got {values.data!r}")
    chosen = frozenset(name for name in flags or {} if getattr(values, name))
    named = {name: getattr(values, name) for name in options or {}}
    return Arguments(Path(values.data), values.json, values.quick, getattr(values, "only", None), chosen, named)


def run_sections(description: str | None, sections: Mapping[str, Measure]) -> None:
    """Run the sections that the command line names; write all figures after each of them, so that a killed run loses one section.

    Args:
        description: Of the benchmark.
        sections: By the names for `--only`.
    """
    arguments = parse_arguments(description, sections=tuple(sections))
    figures: Figures = {}
    for name, measure in sections.items():
        if arguments.only in (None, name):
            print(f"== {name}", flush=True)
            figures |= measure(arguments.data, arguments.is_quick)
            counted = {"n": len(figures), **figures}
            finish(counted, arguments.json_path, is_quick=arguments.is_quick, only=arguments.only)


def read_squad(data: Path, *, answerable: bool | None = True) -> Questions:
    """Return the SQuAD 2.0 slice: a document a paragraph, titled by its article.

    Args:
        data: Folder of the data sets.
        answerable: True or False for one half of the questions, None for all.
    """
    with gzip.open(data / "squad-v2-dev.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    documents, questions = [], []
    for article in articles:
        for number, paragraph in enumerate(article["paragraphs"]):
            identity = f"{article['title']}/{number}"
            documents.append(Document(paragraph["context"], id=identity, title=article["title"].replace("_", " ")))
            for row in paragraph["qas"]:
                if answerable in (None, not row["is_impossible"]):
                    answers = tuple(dict.fromkeys(answer["text"] for answer in row["answers"]))
                    questions.append(Question(row["question"], answers, identity))
    return Questions("squad", tuple(documents), tuple(questions))


def read_nq(data: Path) -> Questions:
    """Return the Natural Questions slice: a document for each distinct gold passage."""
    documents: dict[str, Document] = {}
    questions = []
    with gzip.open(data / "nq-open-oracle.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            gold = row["ctxs"][0]
            identity = hashlib.sha256(f"{gold['title']}\n{gold['text']}".encode()).hexdigest()[:16]
            documents[identity] = Document(gold["text"], id=identity, title=gold["title"])
            questions.append(Question(row["question"], tuple(row["answers"]), identity))
    return Questions("nq", tuple(documents.values()), tuple(questions))


def file_hash(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file; for a folder, of its weights (`model.safetensors`)."""
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def finish(
    figures: Mapping[str, float | int | None],
    json_path: Path | None,
    *,
    models: Mapping[str, str | os.PathLike[str]] | None = None,
    is_quick: bool = False,
    only: str | None = None,
    gpu: str | None = None,
) -> None:
    """Print the figures as one JSON line, the last one, and write them indented to `json_path`; "about" says what was measured.

    Args:
        figures: By name; `n`, the number of questions, must be among them.
        json_path: File to write, or None.
        models: Files that were measured, by name; their hashes go along.
        is_quick: Whether fewer questions than there are were asked.
        only: The section that these figures are of; those of others stay in the file, and it says which were measured later.
        gpu: What computed, where it was no CPU.
    """
    if only is not None and json_path is not None and json_path.exists():
        known = json.loads(json_path.read_text(encoding="utf-8"))
        about = known.pop("about")
        about["later"] = {**about.get("later", {}), only: _COMMIT}
        _write({**known, **figures, "n": known["n"]}, about, json_path)
        return
    if "n" not in figures:
        raise ValueError("`figures` must hold 'n', the number of questions")
    about = {
        "quick": is_quick,
        "models": {name: file_hash(path) for name, path in (models or {}).items()},
        "machine": {
            **({} if gpu is None else {"gpu": gpu}),
            "cpu": processor_name(),
            "threads": os.cpu_count(),
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {package: _version(package) for package in _PACKAGES},
        "commit": _COMMIT,
    }
    _write(figures, about, json_path)


def _write(figures: Mapping[str, float | int | None], about: Mapping[str, object], json_path: Path | None) -> None:
    rounded = {name: round(value, 5) if isinstance(value, float) else value for name, value in figures.items()}
    result = {**rounded, "about": about}
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result), flush=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit measured, with a "+" when files were changed since; None outside a checkout."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--abbrev=12",
        "--exclude=*",
        "--dirty=+",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


_COMMIT = _commit()  # when the run begins: what is committed meanwhile was not measured
