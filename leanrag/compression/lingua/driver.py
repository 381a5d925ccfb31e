"""Run the unchanged algorithms of the llmlingua package, with adapters for its tokenizer and model.

The package (release 0.2.2) is a class with a tokenizer and a model, written for transformers before 4.36. The driver is a
subclass of it. It passes it a tokenizer and a model that translate between that interface and the one of current transformers,
and it overrides the methods that return text, to record which tokens were kept. This solves the following problems:

- Current transformers keep past states in a `DynamicCache`; the package expects pairs of tensors.
- The constructor of the package downloads an encoding, trusts code of the model, and seeds all random generators of the process.
  It is not called.
- The package returns text. It gets the index of each token instead of its id, so the kept tokens are known exactly.
- Protected tokens are kept with `keep_flag` in the token filter.
- The token filter keeps its last, incomplete stretch whole, which is the whole text if it has fewer than 200 tokens. All
  stretches therefore get the same length.
- The package counts wrongly if a text is longer than the window of the model. Such a text is passed in several parts.
- The ranks of documents and the first pass over a text are reused in the next call for the same text.

LLMLingua-2 does not run the package, which drops `[UNK]`, and feeds `[CLS]` and `[SEP]` to XLM-RoBERTa: see `classifier`.
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
        """The part of `llmlingua.PromptCompressor` that is used."""

        context_idxs: list[Any]

        def compress_prompt(self, *args: Any, **options: Any) -> Any: ...
        def control_context_budget(self, *args: Any, **options: Any) -> Any: ...
        def get_compressed_input(self, *args: Any, **options: Any) -> Any: ...
        def get_condition_ppl(self, *args: Any, **options: Any) -> Any: ...
        def get_dynamic_compression_ratio(self, *args: Any, **options: Any) -> Any: ...
        def get_ppl(self, *args: Any, **options: Any) -> Any: ...
        def get_rank_results(self, *args: Any, **options: Any) -> Any: ...
        def get_token_length(self, text: str, *, add_special_tokens: bool = True) -> int: ...
        def iterative_compress_prompt(self, *args: Any, **options: Any) -> Any: ...

else:
    PackageBase = object


@dataclass(frozen=True, slots=True)
class LinguaOptions:
    """Settings of the package, with the names that `LLMLinguaCompressor` describes."""

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
    """The tokens of several texts, text after text.

    Attributes:
        texts: The encoded texts; each has as many characters as the original.
        tokens: The tokens as the tokenizer spells them.
        ids: Token ids, int64 `(n,)`.
        spans: int64 `(n, 2)`: first character of the token in its text, and one past the last.
        bounds: int64 `(texts + 1,)`: the tokens of text `i` are `bounds[i]:bounds[i + 1]`.
    """

    texts: tuple[str, ...]
    tokens: tuple[str, ...]
    ids: NDArray[np.int64]
    spans: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def tokens_of(self, text: int) -> slice:
        """Return the indices of the tokens of text number `text`."""
        return slice(int(self.bounds[text]), int(self.bounds[text + 1]))


@dataclass(frozen=True, slots=True)
class LinguaRequest:
    """The input of the package, without the target.

    Attributes:
        encoded: The documents.
        protected: bool `(n,)`: the tokens that must stay if their document stays.
        forced: Indices of the documents that must stay.
        question: The question of the reader, or ""; only the rank "longllmlingua" reads it.
        rank: How LLMLingua ranks documents.
        options: The other settings.
        count_tokens: Counts tokens as the reader does; LLMLingua-2 weighs words with it.
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
    """The decision of the package about each token.

    Attributes:
        judged: bool `(n,)`; False in documents that the document filter dropped.
        kept: bool `(n,)`; True for the tokens that it keeps, protected tokens included.
        values: float64 `(n,)`: value of the token minus the threshold; above 0 is worth keeping.
    """

    judged: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    values: NDArray[np.float64]


def clean_text(text: str) -> str:
    """Return `text` with a replacement character for each surrogate, because tokenizers refuse surrogates."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def encode(tokenizer: Any, texts: Sequence[str]) -> Encoded:
    """Return the tokens of `texts` with their offsets. The spelling of a control token in a text is plain text."""
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
