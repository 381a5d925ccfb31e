"""Shorten the prompts that a program sends to a paid API. There are no documents and no search: only the prompt.

    python -m examples.prompts MOST_TOKENS < PROMPT.txt

The last line of the prompt is the question. `shorten` keeps the sentences of the other lines that are worth most for the question,
word by word. `send` shows how a program uses it that calls an OpenAI-compatible server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from leanrag.compression import ExtractiveCompressor, compress_prompt
from leanrag.evidence import Protection
from leanrag.models import token_counter
from leanrag.protocols import GenerateOptions, LanguageModel
from leanrag.types import Compression, Message

INSTRUCTIONS = "Answer from the material. Say so if it does not answer."
ENCODING = "cl100k_base"


def shorten(material: str, question: str, most_tokens: int, *, count_tokens: Callable[[str], int]) -> Compression:
    """Return the part of some material that is worth most for a question.

    Args:
        material: The text.
        question: What the model is asked about it.
        most_tokens: Most tokens of the result.
        count_tokens: Counts tokens as the API does.
    """
    return compress_prompt(
        material,
        ExtractiveCompressor(),
        count_tokens=count_tokens,
        budget=most_tokens,
        question=question,
        protection=Protection(),  # a sentence may be dropped, but no number or name is cut out of it
    )


def send(model: LanguageModel, material: str, question: str, most_tokens: int) -> str:
    """Ask a model about some material; a `leanrag.remote.RemoteModel` calls an API.

    Args:
        model: The model.
        material: The text.
        question: The question.
        most_tokens: Most tokens of the material in the prompt.
    """
    shorter = shorten(material, question, most_tokens, count_tokens=model.count_tokens)
    messages = [Message("system", INSTRUCTIONS), Message("user", f"{shorter.text}\n\nQuestion: {question}")]
    return model.stream(messages, GenerateOptions(max_tokens=200)).result.text


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    *material, question = sys.stdin.read().strip().splitlines()
    result = shorten("\n".join(material), question, int(sys.argv[1]), count_tokens=token_counter(ENCODING))
    print(result.text, question, sep="\n")
    print(f"{result.tokens_before} tokens became {result.tokens_after}", file=sys.stderr)


if __name__ == "__main__":
    main()
