"""The llmlingua package, driven from outside: its algorithms as they are, what breaks around them taken away.

The package is a class that holds a tokenizer and a model. Here it is subclassed, never changed: the tokenizer and the model that it
is given are stand-ins that speak its dialect (release 0.2.2, written for transformers before 4.36) on one side and that of today's
transformers on the other, and the methods that come back with text are watched so that it is known which token of which text
survived. What that mends:

- Past key and value states: `DynamicCache` here, pairs of tensors there.
- Its constructor fetches an encoding, trusts code that comes with a model and seeds every generator of the process: not run.
- Tokens go through it as numbers of their own, so that each kept token is known by its place, not guessed from its text.
- Protected tokens: `keep_flag` of the token filter, a probability of 1 for LLMLingua-2.
- The last, incomplete stretch of the token filter, which it keeps whole (that is all of a text below 200 tokens), is avoided by
  choosing stretches of equal length.
- Text beyond the model's window comes in several parts, since its own way there loses count.
- Ranks of documents and the first pass over a text are kept for the next call on the same text.
- `[UNK]` and, with XLM-RoBERTa, `[CLS]` and `[SEP]` in LLMLingua-2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from leanrag.protocols import TokenCounter

__all__ = [
    "Encoded",
    "LinguaOptions",
    "LinguaRequest",
    "Verdict",
    "encode",
]

WHY = "to compress with LLMLingua"

LinguaMethod = Literal["longllmlingua", "llmlingua", "llmlingua2"]
Rank = Literal["llmlingua", "longllmlingua"]
Condition = Literal["none", "before", "after"]
Reorder = Literal["original", "sort", "two_stage"]

if TYPE_CHECKING:

    class PackageBase:
        """What is used of `llmlingua.PromptCompressor`."""

        context_idxs: list[Any]

        def compress_prompt(self, *args: Any, **options: Any) -> Any: ...
        def compress_prompt_llmlingua2(self, *args: Any, **options: Any) -> Any: ...
        def control_context_budget(self, *args: Any, **options: Any) -> Any: ...
        def get_compressed_input(self, *args: Any, **options: Any) -> Any: ...
        def get_condition_ppl(self, *args: Any, **options: Any) -> Any: ...
        def get_ppl(self, *args: Any, **options: Any) -> Any: ...
        def iterative_compress_prompt(self, *args: Any, **options: Any) -> Any: ...

else:
    PackageBase = object


@dataclass(frozen=True, slots=True)
class LinguaOptions:
    """Settings of the package, by our names; `LLMLinguaCompressor` describes them."""

    contrastive: bool
    condition_in_question: Condition
    reorder: Reorder
    dynamic_ratio: float
    extra_tokens: int
    stretch_tokens: int
    document_filter: bool
    token_filter: bool


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts as the scorer's tokens, one after another.

    Attributes:
        texts: What was encoded; as long as the original, character for character.
        tokens: The tokens' own spelling.
        ids: int64 `(n,)`.
        spans: int64 `(n, 2)`: first character of the token in its text, and one past the last.
        bounds: int64 `(texts + 1,)`: the tokens of text `i` are `bounds[i]:bounds[i + 1]`.
    """

    texts: tuple[str, ...]
    tokens: tuple[str, ...]
    ids: NDArray[np.int64]
    spans: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def place(self, text: int) -> slice:
        """Return where the tokens of a text are."""
        return slice(int(self.bounds[text]), int(self.bounds[text + 1]))


@dataclass(frozen=True, slots=True)
class LinguaRequest:
    """What the package is asked, but for how much is to stay.

    Attributes:
        encoded: The documents.
        protected: bool `(n,)`, by token: what may not go from a document that stays.
        forced: Documents that stay.
        question: What the reader will be asked, "" for nothing; only `rank` "longllmlingua" reads it.
        rank: How LLMLingua ranks documents.
        options: The rest.
        count_tokens: Of the reader; what LLMLingua-2 weighs words with.
    """

    encoded: Encoded
    protected: NDArray[np.bool_]
    forced: Sequence[int]
    question: str
    rank: Rank
    options: LinguaOptions
    count_tokens: TokenCounter


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the package thinks of each token.

    Attributes:
        judged: bool `(n,)`; False in documents that its filter left out.
        kept: bool `(n,)`; what it keeps, protected tokens among it.
        values: float64 `(n,)`: what it compares with a threshold, less the threshold; above 0 is worth keeping.
    """

    judged: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    values: NDArray[np.float64]


def clean_text(text: str) -> str:
    """Return `text` with a replacement character for each surrogate, which no tokenizer takes."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def encode(tokenizer: Any, texts: Sequence[str]) -> Encoded:
    """Return the tokens of `texts` and their places; control tokens that a text spells are plain text."""
    clean = tuple(clean_text(text) for text in texts)
    tokens: list[str] = []
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    bounds = [0]
    for text in clean:
        encoding = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
        )
        ids += encoding["input_ids"]
        tokens += tokenizer.convert_ids_to_tokens(encoding["input_ids"])
        spans += encoding["offset_mapping"]
        bounds.append(len(ids))
    return Encoded(
        clean,
        tuple(tokens),
        np.array(ids, dtype=np.int64),
        np.array(spans, dtype=np.int64).reshape(-1, 2),
        np.array(bounds, dtype=np.int64),
    )
