"""Structured answers: draws only tokens that a grammar allows.

    schema -> schema_to_gbnf -> GBNF -> read_gbnf -> Grammar: pick, accept, pick, accept, ...

llama.cpp runs the grammar. It ends the process if it gets a token that the grammar does not allow. So each token is tested first.
"""

from __future__ import annotations

import codecs
import ctypes
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError, GenerationError
from leanrag.llama.grammar.gbnf import Readings, read_gbnf
from leanrag.llama.grammar.schema import schema_to_gbnf
from leanrag.llama.library import library, native_errors
from leanrag.llama.sampling import Chooser
from leanrag.llama.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pydantic

__all__ = ["Grammar", "make_grammar"]

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama.h, llama_token_data


class Grammar:
    """The grammar of one generation; used by the owner thread, and closed before the model is freed.

    Call `pick` and `accept` in turn, until `pick` returns an end token.
    """

    def __init__(self, vocabulary: Vocabulary, gbnf: str, *, limits_work: bool = True) -> None:
        """Check a grammar and load it into llama.cpp.

        Args:
            vocabulary: The model's vocabulary.
            gbnf: The grammar.
            limits_work: Whether to estimate the work before llama.cpp tests all tokens; not needed for grammars from
                `schema_to_gbnf`.

        Raises:
            ConfigurationError: The grammar is wrong; see `check_gbnf`.
        """
        self._readings, self._limits_work = Readings(read_gbnf(gbnf)), limits_work
        self._vocabulary, self._lib = vocabulary, library()
        with native_errors() as native:
            self._native = self._lib.llama_sampler_init_grammar(vocabulary.handle, gbnf.encode(), b"root")
            if not self._native:
                raise ConfigurationError(f"llama.cpp refuses the grammar: {native}. Simplify it")
        self._finalizer = weakref.finalize(self, self._lib.llama_sampler_free, self._native)
        self._control = [token for token in vocabulary.control_tokens if not vocabulary.is_end(token)]
        self._all, self._all_view = self._candidates(vocabulary.n_tokens)
        self._all["id"] = np.arange(vocabulary.n_tokens)
        self._single, self._single_view = self._candidates(1)
        self._partial = b""  # first bytes of a character that is not complete yet

    def close(self) -> None:
        """Free the grammar; idempotent."""
        self._finalizer()

    def pick(self, logits: NDArray[np.float32], sampler: Chooser) -> int:
        """Draw a token with `sampler` among the tokens that the grammar allows, and return it.

        The first draw is from all tokens: a model mostly follows the grammar without help, and the test of one token is cheap.
        If the grammar refuses the token, the second draw is from the allowed tokens: the logits of all others are minus infinity.
        With greedy sampling the result is the best allowed token. With temperature alone its distribution is exactly that of the
        allowed tokens, because P(y) = p(y) + (1 - p(allowed)) p(y) / p(allowed) = p(y) / p(allowed). `top_k`, `top_p` and `min_p`
        cut the tail of all tokens in the first draw, and the tail of the allowed tokens in the second, as llama.cpp's
        `common_sampler_sample` does.

        End tokens are allowed exactly when the text is complete. Other control tokens are refused, and so are tokens that contain
        a NUL or that would break the UTF-8 of the text.

        Args:
            logits: `(n_vocab,)`, not changed.
            sampler: Draws a token from logits.

        Raises:
            GenerationError: The grammar allows no token, or is so ambiguous that the test would take too long.
            ConfigurationError: The grammar is closed, or `logits` has another shape.
        """
        self._check_open()
        if logits.shape != self._all.shape:
            raise ConfigurationError(f"`logits` must be of shape {self._all.shape}, got {logits.shape}")
        token = sampler(logits)
        if self._allows(token):
            return token
        masked = np.where(self._allowed(), logits, -np.inf).astype(np.float32, copy=False)
        while not np.isneginf(masked).all():
            token = sampler(masked)
            if self._allows(token):
                return token
            masked[token] = -np.inf  # not valid UTF-8: another draw without this token keeps the distribution
        raise GenerationError(
            "no token of the model is allowed next by the grammar. Allow more in the grammar, or check that the "
            "model's vocabulary can spell what the grammar requires"
        )

    def chooser(self, sampler: Chooser) -> Chooser:
        """Return a function that draws a token with `sampler`; each token is allowed by the grammar and accepted."""

        def choose(logits: NDArray[np.float32]) -> int:
            token = self.pick(logits, sampler)
            self.accept(token)
            return token

        return choose

    def accept(self, token: int) -> None:
        """Append an allowed token to the text.

        Raises:
            ConfigurationError: The grammar is closed or does not allow `token`; nothing changed.
            GenerationError: The text can be read in too many ways; the generation must stop.
        """
        self._check_open()
        if not self._allows(token):
            raise ConfigurationError(
                f"token {token!r} is not allowed by the grammar here. Accept only tokens that `pick` returned"
            )
        if self._vocabulary.is_end(token):
            return
        data = self._partial + self._vocabulary.piece(token)
        text, consumed = codecs.utf_8_decode(data, "strict", False)
        self._readings.follow(text)
        self._lib.llama_sampler_accept(self._native, token)
        self._partial = data[consumed:]

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise ConfigurationError("the grammar is closed. Make a new grammar")

    def _candidates(self, n: int) -> tuple[NDArray[np.void], Any]:
        """Return an array of `n` candidates, and the structure with which llama.cpp reads it."""
        candidates = np.zeros(n, _CANDIDATE)
        data = candidates.ctypes.data_as(self._lib.llama_token_data_p)
        return candidates, self._lib.llama_token_data_array(data, n, -1, False)

    def _allows(self, token: int) -> bool:
        vocabulary = self._vocabulary
        if not 0 <= token < vocabulary.n_tokens:
            return False
        self._readings.check_work([(self._partial + vocabulary.piece(token)).decode("utf-8", "ignore")], [0])
        self._single[0] = (token, 0, 0)
        self._lib.llama_sampler_apply(self._native, ctypes.byref(self._single_view))
        if self._single["logit"][0] != 0:
            return False
        return vocabulary.is_end(token) or (token not in vocabulary.control_tokens and self._is_text(token))

    def _is_text(self, token: int) -> bool:
        piece = self._vocabulary.piece(token)
        data = self._partial + piece
        try:
            _, consumed = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            return False
        is_surrogate = data[consumed : consumed + 1] == b"\xed" and data[consumed + 1 : consumed + 2] >= b"\xa0"
        return not is_surrogate and b"\0" not in piece  # llama.cpp reads a piece up to a NUL

    def _allowed(self) -> NDArray[np.bool_]:
        """Return which tokens the grammar allows, `(n_vocab,)`; a few of them may still break the UTF-8 of the text."""
        if self._limits_work:
            self._readings.check_work(*self._vocabulary.spellings)
        self._all["logit"] = 0
        self._lib.llama_sampler_apply(self._native, ctypes.byref(self._all_view))
        allowed: NDArray[np.bool_] = self._all["logit"] == 0
        allowed[self._control] = False
        return allowed


def make_grammar(
    vocabulary: Vocabulary,
    *,
    schema: Mapping[str, object] | type[pydantic.BaseModel] | None = None,
    gbnf: str | None = None,
) -> Grammar | None:
    """Return the grammar of a schema or of GBNF; None if neither is passed.

    Args:
        vocabulary: The model's vocabulary.
        schema: JSON Schema, or a pydantic model.
        gbnf: A grammar in GBNF, instead of a schema.

    Raises:
        ConfigurationError: Both are passed, or the schema or the grammar is wrong.
    """
    if schema is not None and gbnf is not None:
        raise ConfigurationError("`schema` and `grammar` exclude each other: pass one of them")
    if schema is not None:
        gbnf = schema_to_gbnf(schema if isinstance(schema, Mapping) else schema.model_json_schema())
    return None if gbnf is None else Grammar(vocabulary, gbnf, limits_work=schema is None)
