"""Which prompt makes a small instruct model answer from the text?

Each template asks the same questions about the same sources: how Python statements work, and what no source says (in the database
of `examples/demo.py`, packed as by default); and questions of SQuAD and NQ with their gold passage as the only source. An answer is
right if it has one of the accepted phrases; if the question has no answer, it is right if it says so. "abstains" is the share of
answers that are less sure than the demo asks for.

    python -m benchmarks.reading.prompts --data DIR --json FILE [--quick] [--small] [--only TEMPLATE]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import leanrag
from benchmarks.common import Questions, finish, parse_arguments, read_nq, read_squad
from examples import demo
from leanrag.llama.model import LlamaCppModel
from leanrag.metrics import contains_answer
from leanrag.models import resolve
from leanrag.prompting import PromptTemplate
from leanrag.routing.refusals import is_refusal
from leanrag.types import Chunk, Document, Hit, PackedItem

EMBEDDER = "all-minilm-l6-v2"
QUESTIONS, QUICK_QUESTIONS = 20, 2  # of each data set

SOURCE = "{title}\n{text}\n\n"
BASED = "Based only on the text above, answer this question"
WORDS = f"{BASED} with the words of the text"
SENTENCES = "Answer in one or two full sentences, using the words of the text."
SAY_NOT = 'If the text does not answer it, reply "The text does not say."'
TEMPLATES = {
    "plain": PromptTemplate("", SOURCE, f"{BASED}: {{question}}"),
    "sentence": PromptTemplate("", SOURCE, f"{BASED} in one full sentence: {{question}}"),
    "words": PromptTemplate("", SOURCE, f"{WORDS}: {{question}}"),
    "or_not": PromptTemplate("", SOURCE, f"{BASED}. {SAY_NOT}\n{{question}}"),
    "words_or_not": PromptTemplate("", SOURCE, f"{WORDS}. {SAY_NOT}\n{{question}}"),
    "sentences_or_not": PromptTemplate("", SOURCE, f"Question: {{question}}\n{SENTENCES} {SAY_NOT}"),
    "system": PromptTemplate(f"Answer from the text. {SENTENCES} {SAY_NOT}", SOURCE, "Question: {question}"),
}
REFERENCE: dict[str, tuple[str, ...]] = {
    "What does the global statement do?": ("globals", "global variable"),
    "What does the nonlocal statement do?": ("enclosing", "nonlocal scope"),
    "What does the assert statement do?": ("debugging assertions",),
    "What does the continue statement do?": ("next cycle", "next iteration", "skips the rest"),
    "What does the break statement do?": ("terminates", "ends the", "exits"),
    "What does the pass statement do?": ("null operation", "nothing happens", "does nothing"),
    "What does the del statement do?": ("removes", "deletes", "deletion", "deleting"),
    "What does the return statement do?": ("leaves the current function", "leaves", "returns"),
    "What does the raise statement do?": ("re-raises", "raises"),
    "What does the import statement do?": ("find", "loads", "binds", "defines a name"),
    "What does the with statement do?": ("wrap the execution", "wraps", "context manager"),
    "What does the while statement do?": ("repeated execution", "repeatedly"),
    "What does the for statement do?": ("iterate over", "iterates over"),
    "What does the try statement do?": ("exception handlers", "cleanup code", "exceptions"),
    "Who won the football world cup in 1998?": (),
    "What is the capital of Australia?": (),
    "How many people live in Oslo?": (),
    "Which river flows through Vienna?": (),
}
"""Questions about Python with accepted phrases, and questions that the reference does not answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer, measured; the verdict and the confidence are None where the pipeline was not asked."""

    kind: str
    is_right: bool
    is_supported: bool | None = None
    confidence: float | None = None


def is_right(text: str, phrases: Sequence[str]) -> bool:
    """Return whether an answer is right."""
    return contains_answer(text, phrases) if phrases else is_refusal(text)


def ask_reference(model: LlamaCppModel, template: PromptTemplate) -> Iterator[Outcome]:
    """Ask about Python."""
    with leanrag.open(demo.FOLDER / "kb", model=model, embedder=EMBEDDER, template=template) as rag:
        if not rag.stats().documents:
            demo.write_topics(demo.FOLDER / "python-reference")
            rag.add(demo.FOLDER / "python-reference")
        for question, phrases in REFERENCE.items():
            answer = rag.ask(question)
            assert answer.generation is not None
            outcome = Outcome(
                "statements" if phrases else "unanswerable",
                is_right(answer.generation.text, phrases),
                answer.is_supported,
                answer.confidence,
            )
            print(f"  {question} {answer.generation.text!r} {outcome}")
            yield outcome


def ask_gold(
    model: LlamaCppModel, templates: Sequence[PromptTemplate], questions: Questions, count: int
) -> Iterator[list[Outcome]]:
    """Ask questions of a data set, each with the passage that it was asked about; yield the outcomes of all templates."""
    documents = {document.id: document for document in questions.documents}
    asked = questions.questions[:: max(1, len(questions.questions) // count)][:count]
    for question in tqdm(asked, desc=questions.name, disable=None):
        items = [_whole(documents[question.document_id])]
        kind = questions.name if question.answers else "no_answer"
        prompts = [template.build(question.text, items) for template in templates]
        texts = [model.generate(prompt, max_tokens=64).text for prompt in prompts]
        yield [Outcome(kind, is_right(text, question.answers)) for text in texts]


def _whole(document: Document) -> PackedItem:
    chunk = Chunk(document.id, 0, len(document.text), document.text, document.title)
    return PackedItem(1, Hit(chunk, 1.0), document.text, (), 0)


def measure(name: str, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return the figures of one template."""
    figures: dict[str, float] = {}
    for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
        rows = [outcome for outcome in outcomes if outcome.kind == kind]
        figures[f"{name}_{kind}"] = float(np.mean([row.is_right for row in rows]))
        if confidences := [row.confidence for row in rows if row.confidence is not None]:
            figures[f"{name}_{kind}_supported"] = float(np.mean([row.is_supported is True for row in rows]))
            figures[f"{name}_{kind}_abstains"] = float(np.mean(np.array(confidences) < demo.ABSTAIN_BELOW))
    for key, value in figures.items():
        print(f"{key:44} {value:.2f}")
    return figures


def main() -> None:
    """Measure all templates."""
    arguments = parse_arguments(
        __doc__, sections=tuple(TEMPLATES), flags={"small": "measure smollm2-135m instead of qwen2.5-coder-0.5b"}
    )
    count = QUICK_QUESTIONS if arguments.is_quick else QUESTIONS
    model_name = "smollm2-135m" if "small" in arguments.flags else "qwen2.5-coder-0.5b"
    templates = {name: template for name, template in TEMPLATES.items() if arguments.only in (None, name)}
    outcomes: dict[str, list[Outcome]] = {}
    with LlamaCppModel(resolve(model_name), name=model_name, no_repeats=True) as model:
        for name, template in templates.items():
            print(f"{name}:")
            outcomes[name] = list(ask_reference(model, template))
        unanswerable = read_squad(arguments.data, answerable=False)
        for questions in (read_squad(arguments.data), read_nq(arguments.data), unanswerable):
            for row in ask_gold(model, list(templates.values()), questions, count):
                for name, outcome in zip(templates, row, strict=True):
                    outcomes[name].append(outcome)
    figures: dict[str, float] = {"n": len(REFERENCE) + 3 * count}
    for name, rows in outcomes.items():
        figures |= measure(name, rows)
    models = {name: resolve(name) for name in (model_name, EMBEDDER)}
    finish(figures, arguments.json_path, models=models, is_quick=arguments.is_quick, only=arguments.only)


if __name__ == "__main__":
    main()
