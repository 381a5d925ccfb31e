"""Answer a file of questions overnight, 10,000 or more, and go on after a kill, a power cut or an error.

    python -m examples.batch FOLDER QUESTIONS.txt ANSWERS.csv [--model NAME]

The file has a question in each line. Every answer is written to `ANSWERS.jsonl` as soon as it is known, so a second call asks only
what is missing. Eight questions are computed together. A question that fails does not stop the others, and the next call asks it
again. Equal questions are computed once, because the folder remembers the answers.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import leanrag
from leanrag.evaluation import Run, run

PARALLEL = 8
MOST_FAILED = 0.5
"""Above this share of failures, something is wrong with the model and not with the questions: the run stops."""


def answer_file(folder: Path, questions: Path, answers: Path, **settings: Any) -> Run:
    """Answer each line of a file; write a table with the answers, their sources and what is doubtful.

    Args:
        folder: The database.
        questions: A question in each line.
        answers: The table, in CSV.
        settings: Further arguments of `leanrag.open`.
    """
    lines = [line.strip() for line in questions.read_text(encoding="utf-8").splitlines() if line.strip()]
    with leanrag.open(folder, cache="exact", create=False, **settings) as rag:
        result = run(rag, lines, path=answers.with_suffix(".jsonl"), parallel=PARALLEL, most_failed=MOST_FAILED)
    with answers.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", "answer", "supported", "confidence", "sources", "error"])
        for outcome in result.outcomes:
            answer = outcome.answer
            if answer is None:
                table.writerow([outcome.question.text, "", "", "", "", outcome.error])
                continue
            sources = "; ".join(dict.fromkeys(quote.document_id for quote in answer.citations))
            table.writerow([outcome.question.text, answer.text, answer.is_supported, answer.confidence, sources, ""])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--model", help="name or GGUF file (default: the best on this machine)")
    options = parser.parse_args()
    result = answer_file(options.folder, options.questions, options.answers, model=options.model)
    print(f"{len(result.outcomes)} questions, {len(result.failed)} failed: {options.answers}")


if __name__ == "__main__":
    main()
