"""Answer questions about the Python language from its own reference, with small INT4 models on this machine.

The reference is the one that ships inside CPython (`pydoc_data.topics`), written out as one file a topic, plus leanrag's own
documentation. It does not answer the last question, and the demo says so: an answer whose confidence is below `ABSTAIN_BELOW` is
not shown. The small model answers first. If it is not sure and the large model is on this machine, the large model answers too; the
demo does not download the large one. Everything is kept in `.demo/`, answers too: a second run takes seconds.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from pydoc_data.topics import topics

import leanrag
from leanrag.display import to_text
from leanrag.models import REGISTRY, list_models

HOME = Path(__file__).parent.parent
FOLDER = HOME / ".demo"
SMALL, LARGE, EMBEDDER = "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "all-minilm-l6-v2"
ABSTAIN_BELOW = 0.4
QUESTIONS = (
    "What does the nonlocal statement do?",
    "What does the break statement do?",
    "What does the while statement do?",
    "Who won the football world cup in 1998?",
)


def write_topics(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in topics.items():
        path = folder / f"{name}.rst"
        if not path.exists():
            path.write_text(text, encoding="utf-8")


def main() -> None:
    started = time.perf_counter()
    for name in (SMALL, EMBEDDER):
        print(f"model {name}, {REGISTRY[name].size_bytes / 1e6:.0f} MB, downloaded once ...", flush=True)
        print(f"  {leanrag.pull(name)}")
    write_topics(FOLDER / "python-reference")
    try:
        answer_questions()
    except leanrag.IndexMismatchError:  # made with another embedder, by an older version
        shutil.rmtree(FOLDER / "kb")
        answer_questions()
    print(f"\n{time.perf_counter() - started:.1f} s in all")


def is_here(name: str) -> bool:
    return any(status.spec.name == name and status.path is not None for status in list_models())


def answer_questions() -> None:
    models = [SMALL, LARGE] if is_here(LARGE) else [SMALL]
    cascade = leanrag.Cascade(models)
    print(f"answers: {', then '.join(models)}")
    with leanrag.open(
        FOLDER / "kb", model=cascade, embedder=EMBEDDER, cache="exact", abstain_below=ABSTAIN_BELOW
    ) as rag:
        report = rag.add(FOLDER / "python-reference", HOME / "docs", HOME / "README.md")
        stats = rag.stats()
        print(f"indexed {stats.documents} documents, {stats.chunks} chunks ({len(report.unchanged)} unchanged)")
        for question in QUESTIONS:
            print(f"\n=== {question}")
            print(to_text(rag.ask(question)))


if __name__ == "__main__":
    main()
