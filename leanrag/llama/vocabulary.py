"""Text to tokens and back, for one loaded model. Any thread may call: llama.cpp marks these functions thread-safe."""

from __future__ import annotations

import codecs
import ctypes
import functools
import re
import string
from typing import Any

from leanrag.errors import GenerationError
from leanrag.llama.library import without_release
from leanrag.llama.token_memory import TokenMemory
from leanrag.text import shared_length
from leanrag.threads import shared_property

__all__ = ["TextDecoder", "Vocabulary"]

# llama.h, enum llama_token_attr
_UNKNOWN, _CONTROL, _USER_DEFINED = 1, 8, 16
_MARKUP = re.compile(r"[<\[{|].*[>\]}|]", re.DOTALL)

_BEFORE = frozenset((string.ascii_letters + ",;:.").encode())  # what a word that can be parted off may follow
# three ways to spell a space in a vocabulary
_JOINED = re.compile(rb"[A-Za-z,;:.](?: |\xc4\xa0|\xe2\x96\x81)(?=[A-Za-z\0]|$)")
_PROBE = "It was the best of times, it was the worst of times: a Tale; of two cities. By CHARLES Dickens"


class Vocabulary:
    """The vocabulary of a loaded model.

    Attributes:
        handle: llama.cpp's own; valid as long as the model is.
        n_tokens: Size of the vocabulary.
        bos: Token that begins a text, -1 when there is none.
        adds_bos: Whether the model expects it.
    """

    def __init__(self, lib: Any, model: Any) -> None:
        self._lib = lib
        self._read_piece, self._is_end = without_release("llama_token_to_piece"), without_release("llama_vocab_is_eog")
        self.handle = lib.llama_model_get_vocab(model)
        self.n_tokens: int = lib.llama_vocab_n_tokens(self.handle)
        self.bos: int = lib.llama_vocab_bos(self.handle)
        self.eos: int = lib.llama_vocab_eos(self.handle)
        self.adds_bos: bool = self.bos >= 0 and lib.llama_vocab_get_add_bos(self.handle)
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Return the tokens of `text`, without BOS. Control tokens are recognised only with `parse_special`.

        The tokens of words are remembered, where they do not depend on the text around them.
        """
        memory = self._memory
        return self._tokenize(text, parse_special) if memory is None else memory(text, parse_special)

    @shared_property
    def _memory(self) -> TokenMemory | None:
        """Remembers the tokens of words; None if the words of a text cannot be told from its tokens."""
        if self.parting is None or b"".join(map(self.piece, self._tokenize(_PROBE, False))) != _PROBE.encode():
            return None  # as in vocabularies that fold case, or add a space
        texts = {self.text(token) for token in self.control_tokens} - {""}
        if any(text[0].isalnum() or text[0].isspace() or self.parting.search(text) for text in texts):
            return None
        tokenize = functools.partial(Vocabulary._tokenize, self)
        return TokenMemory(tokenize, self.piece, self.parting, texts)

    @shared_property
    def parting(self) -> re.Pattern[str] | None:
        """Matches, with no characters, where no token can reach across, whatever stands around it; None for nowhere.

        That is before a space between a letter (or one of a few marks) and a letter, in vocabularies that hold no token with
        these around a space. The pre-tokenizers for byte-pair encoding part there too, and where there are none
        (SentencePiece), merging needs a token to merge into.
        """
        joined = {found[0][0] for found in _JOINED.finditer(b"\0".join(self.raw_texts()))}
        marks = bytes(sorted(_BEFORE - joined)).decode()
        if not marks:
            return None
        parting = re.compile(rf"(?<=[{re.escape(marks)}])(?= [A-Za-z])")
        whole = len(self._tokenize(_PROBE, False))
        return parting if sum(len(self._tokenize(piece, False)) for piece in parting.split(_PROBE)) == whole else None

    def _tokenize(self, text: str, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        capacity = 1 << (len(data) + 8).bit_length()  # few lengths: ctypes makes a type for each
        while True:
            buffer = (ctypes.c_int32 * capacity)()
            count = self._lib.llama_tokenize(self.handle, data, len(data), buffer, capacity, False, parse_special)
            if count >= 0:
                return buffer[:count]
            if count == -(2**31):
                raise GenerationError(
                    f"a text of {len(data):,} bytes is more than llama.cpp can tokenize. Divide the text"
                )
            capacity = -count

    def piece(self, token: int) -> bytes:
        """Return the bytes of `token`; control tokens have their text."""
        piece = self._pieces.get(token)
        if piece is None:
            size = 64
            while True:
                buffer = ctypes.create_string_buffer(size)
                count = self._read_piece(self.handle, token, buffer, size, 0, True)
                if count >= 0:
                    break
                size = -count  # pieces longer than the buffer report what they need
            piece = self._pieces[token] = buffer.raw[:count]
        return piece

    def raw_texts(self) -> list[bytes]:
        """Return all tokens as the vocabulary spells them; faster than their pieces."""
        get_text, vocab = without_release("llama_vocab_get_text"), self.handle
        return [get_text(vocab, token) or b"" for token in range(self.n_tokens)]

    def text(self, token: int) -> str:
        """Return the text of a control token, "" for none."""
        return self.piece(token).decode("utf-8", "replace") if token >= 0 else ""

    def is_end(self, token: int) -> bool:
        """Return whether `token` ends a generation."""
        ends = self._ends.get(token)
        if ends is None:
            ends = self._ends[token] = bool(self._is_end(self.handle, token))
        return ends

    @shared_property
    def control_tokens(self) -> frozenset[int]:
        """Tokens that mean something to the model beyond their text.

        CONTROL and UNKNOWN tokens, and USER_DEFINED ones that look like markup (`<tool_call>`): llama.cpp recognises the latter
        in any text. Other USER_DEFINED tokens are plain text (runs of newlines in Gemma's vocabulary).
        """
        get_attr, vocab = without_release("llama_vocab_get_attr"), self.handle
        found = set()
        for token in range(self.n_tokens):
            attributes = get_attr(vocab, token)
            if attributes & (_CONTROL | _UNKNOWN) or (
                attributes & _USER_DEFINED and _MARKUP.fullmatch(self.text(token).strip())
            ):
                found.add(token)
        return frozenset(found)

    @shared_property
    def spellings(self) -> tuple[list[str], list[int]]:
        """The texts of all tokens but control tokens, sorted, and how many characters each shares with the one before it."""
        pieces = (self.piece(token) for token in range(self.n_tokens) if token not in self.control_tokens)
        texts = sorted({piece.decode("utf-8", "ignore") for piece in pieces})
        return texts, [shared_length(before, text) for before, text in zip(["", *texts], texts, strict=False)]

    def is_control_text(self, text: str) -> bool:
        """Return whether `text` is the text of a control token."""
        return self.control_pattern.fullmatch(text) is not None

    @shared_property
    def control_pattern(self) -> re.Pattern[str]:
        """Matches the text of any control token."""
        texts = sorted({self.text(token) for token in self.control_tokens} - {""}, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts)) or r"(?!)")


class TextDecoder:
    """Bytes of one token after another to text; incomplete characters wait for their rest."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, piece: bytes, *, final: bool = False) -> str:
        """Return the text that `piece` completes."""
        return self._decoder.decode(piece, final)
