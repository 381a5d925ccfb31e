"""One call for whatever was pasted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from leanrag.checks import check_choice
from leanrag.compression.extractive import ExtractiveCompressor
from leanrag.compression.messages import compress_prompt
from leanrag.compression.pasted.code import compress_code
from leanrag.compression.pasted.json_text import compress_json, parse_json
from leanrag.compression.pasted.kinds import TURN, PastedKind, detect_kind
from leanrag.compression.pasted.logs import compress_log
from leanrag.compression.task import Task
from leanrag.errors import ConfigurationError
from leanrag.models import token_counter
from leanrag.protocols import Compressor, TokenCounter
from leanrag.spans import Span
from leanrag.types import Compression

__all__ = ["compress"]

_ENCODING = "cl100k_base"


def compress(
    text: str,
    *,
    question: str = "",
    budget: int | None = None,
    rate: float | None = None,
    kind: PastedKind | None = None,
    count_tokens: TokenCounter | None = None,
    keep: Sequence[Span] = (),
    compressor: Compressor | None = None,
) -> Compression:
    r"""Return a pasted text in at most `budget` tokens, shortened by its structure, with the source of each part.

    Code keeps signatures and docstrings, JSON the keys that the question names, a table its header and rows, a log its kinds of
    events with their counts, a chat its last turn. JSON stays valid JSON, and Python stays Python. Parts are verbatim; between them
    there is only white space, and in a log a note such as "(37 times)".

    Args:
        text: The text.
        question: What the reader will be asked; "" if nothing is known.
        budget: Most tokens of the result. Pass either `budget` or `rate`.
        rate: Share of the tokens to keep, in (0, 1].
        kind: What the text is; None to find out with `detect_kind`.
        count_tokens: Counts tokens as the reader does; None counts with cl100k_base.
        keep: Spans of `text` that must stay.
        compressor: Shortens tables, chats, instructions and plain text; None for `ExtractiveCompressor()`.

    Raises:
        BudgetError: What must stay does not fit.
        ConfigurationError: An argument cannot work, or `text` is not of the kind that was passed.
        ModelLoadError: `count_tokens` is None, and cl100k_base is not on this machine.

    Example:
        >>> text = '{"user": {"name": "Ada", "email": "ada@example.org"}, "version": 3, "theme": "dark"}'
        >>> compress(text, question="What is the email?", budget=30, count_tokens=len).text
        '{"user": {"email": "ada@example.org"}}'
    """
    if not isinstance(text, str):
        raise ConfigurationError(
            f"`text` must be a string, got {text!r:.80}. Write other values with json.dumps(value)"
        )
    check_choice(get_args(PastedKind), optional=True, kind=kind)
    count_tokens = count_tokens or token_counter(_ENCODING)
    compressor = compressor or ExtractiveCompressor()
    task = Task.of(text, count_tokens=count_tokens, budget=budget, rate=rate, question=question, keep=keep)
    kind = kind or detect_kind(text)
    if task.fits:
        return task.whole(kind)
    if kind in ("json", "tools"):
        root = parse_json(text)
        if root is None:
            raise ConfigurationError(
                f"`text` is not valid JSON, but `kind` is {kind!r}. Mend the text, or pass kind='text' to shorten it as text"
            )
        return compress_json(task, root, keep_schema=kind == "tools")
    if kind == "code":
        return compress_code(task)
    if kind == "log":
        return compress_log(task)
    if kind == "prompt":
        result = compress_prompt(
            text, compressor, count_tokens=count_tokens, budget=task.budget, question=question, keep=task.keep[0]
        )
    else:
        spans = list(keep)
        if kind == "chat":
            last = _last_turn(text)
            question = question or text[slice(*last)]
            spans.append(last)
        result = compressor.compress(text, count_tokens=count_tokens, budget=task.budget, question=question, keep=spans)
    return replace(result, method=kind)


def _last_turn(text: str) -> Span:
    """Return the span of the last turn of a chat; the whole text if it has no turns."""
    start = max((turn.start() for turn in TURN.finditer(text)), default=0)
    return start, start + len(text[start:].rstrip())
