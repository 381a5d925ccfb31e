"""What `leanrag train` gives on a new folder: a reader learns from questions that a larger model makes about the documents.

The documents are passages of Natural Questions, of SQuAD, of XQuAD and of fairy tales about articles and stories that no training
row of the reader was about. The real questions of the first two about these documents measure the models; nothing learns from them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

import leanrag
from benchmarks.training.material import is_held_out, read_nq, read_squad, read_stories
from leanrag.llama import LlamaCppModel
from leanrag.metrics import exact_match, mean
from leanrag.models import resolve
from leanrag.text import without_marks
from leanrag.training import Example, TrainingOptions, train
from leanrag.types import Document

__all__ = ["measure_own_folder"]

BASE, READER, TEACHER = "smollm2-135m", "smollm2-135m+reader", "qwen2.5-coder-0.5b"
OPTIONS = TrainingOptions(
    learning_rate=3e-4, epochs=1, batch_rows=4, batch_tokens=2048, evaluations=2, checkpoint_steps=5, device="cpu"
)
_DOCUMENTS = {"nq": 160, "squad-v2-dev": 39, "xquad-en": 20, "stories": 81}
_ASKED = ("nq", "squad-v2-dev")
_QUESTIONS, _QUICK_QUESTIONS = 25, 2  # of each data set that is asked about
_QUICK_SHARE = 4


def measure_own_folder(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Make questions about a folder, train on them, and measure the real questions before and after.

    A killed run goes on where it was: its files are in a folder of the temporary folder until it has finished.
    """
    work = Path(tempfile.gettempdir()) / ("leanrag-own-folder" + ("-quick" if is_quick else ""))
    work.mkdir(exist_ok=True)
    documents, questions = _read_folder(data, is_quick)
    folder = work / "documents"
    with leanrag.open(folder, model=BASE) as rag:
        rag.add(*documents, progress=False)
    with LlamaCppModel(resolve(TEACHER), n_ctx=1024) as teacher:
        report = train(folder, work / "mine.gguf", teacher=teacher, start_from=READER, options=OPTIONS)
    names = {"base": BASE, "reader": READER, "trained": report.model}
    found = {key: _share_exact(folder, name, questions) for key, name in names.items()}
    shutil.rmtree(work)
    return {
        "own_folder_gain": found["trained"] - found["base"],
        "own_folder_gain_over_reader": found["trained"] - found["reader"],
        **{f"own_folder_{key}_em": value for key, value in found.items()},
        "own_folder_documents": len(documents),
        "own_folder_rows": report.record.rows,
        "own_folder_seconds": report.record.seconds,
        "own_folder_n": len(questions),
    }


def _read_folder(data: Path, is_quick: bool) -> tuple[list[Document], list[Example]]:
    """Return documents of all data sets, and real questions about them."""
    documents: list[Document] = []
    questions: list[Example] = []
    n_questions = _QUICK_QUESTIONS if is_quick else _QUESTIONS
    materials = (read_nq(data), read_squad(data, "squad-v2-dev"), read_squad(data, "xquad-en"), read_stories(data))
    for material in materials:
        n_documents = _DOCUMENTS[material.name] // (_QUICK_SHARE if is_quick else 1)
        asked = [example for example in material.examples if example.answers and is_held_out(example.group)]
        wanted = set(list(dict.fromkeys(example.document_id for example in asked))[:n_documents])
        documents += [document for document in material.documents if document.id in wanted]
        if material.name in _ASKED:
            asked = [example for example in asked if example.document_id in wanted]
            questions += asked[:: max(1, len(asked) // n_questions)][:n_questions]
    return documents, questions


def _share_exact(folder: Path, model: str, questions: Sequence[Example]) -> float:
    """Return the share of the questions that a model answers exactly, with search and packing as in use."""
    with leanrag.open(folder, model=model, create=False, abstain_below=0.0) as rag:
        texts = [
            rag.ask(question.question, style="phrase").text for question in tqdm(questions, desc=model, disable=None)
        ]
    return mean(exact_match(without_marks(text), each.answers) for text, each in zip(texts, questions, strict=True))
