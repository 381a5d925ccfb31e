"""Messages to tokens, through the chat template that the GGUF carries.

The contents of messages are not trusted: no text in them may become a control token, whatever it spells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError
from leanrag.llama.templates import ChatTemplate
from leanrag.llama.vocabulary import Vocabulary
from leanrag.types import Message

__all__ = ["ChatTemplate", "encode_chat", "encode_text", "locate_tokens"]

_WORD_JOINER = "\u2060"  # zero width: breaks a spelled-out token without changing how the text looks


def encode_text(text: str, vocabulary: Vocabulary) -> list[int]:
    """Return the tokens of untrusted `text`: never a control token."""
    tokens = vocabulary.tokenize(text, parse_special=False)
    if vocabulary.control_tokens.isdisjoint(tokens):
        return tokens
    # llama.cpp recognises USER_DEFINED tokens in any text: spell them so that they are not recognised.
    broken = vocabulary.control_pattern.sub(lambda found: found[0][:1] + _WORD_JOINER + found[0][1:], text)
    return vocabulary.tokenize(broken, parse_special=False)


def locate_tokens(text: str, tokens: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """Return for each of `tokens`, as `encode_text` made them of `text`, the character of `text` that it begins in.

    Several may begin in one character; what the tokenizer or `encode_text` inserted begins where the character after it does.

    Raises:
        ConfigurationError: The tokenizer leaves out or replaces characters.
    """
    data = text.encode("utf-8", "replace")
    pieces = [vocabulary.piece(token) for token in tokens]
    starts = np.cumsum([0, *map(len, pieces)])[:-1]
    read = b"".join(pieces)
    if read != data:
        starts = _places_read(read, data)[starts]
    first_bytes = np.flatnonzero((np.frombuffer(data, np.uint8) & 0xC0) != 0x80)  # of characters
    located = np.searchsorted(first_bytes, starts, side="right") - 1
    return located.clip(min=0).tolist()  # type: ignore[no-any-return]


def _places_read(read: bytes, data: bytes) -> NDArray[np.int64]:
    """For each byte of `read`, which is `data` with other bytes in between, its index in `data`."""
    places = np.zeros(len(read) + 1, np.int64)
    at = 0
    for i, byte in enumerate(read):
        places[i] = min(at, len(data) - 1)
        at += at < len(data) and byte == data[at]
    if at < len(data):
        raise ConfigurationError(
            "the model's tokenizer leaves out or replaces characters, so its tokens cannot be located in the text. Use another "
            "model"
        )
    return places


def encode_chat(messages: Sequence[Message], template: ChatTemplate, vocabulary: Vocabulary) -> list[int]:
    """Return the tokens of the rendered conversation; the only control tokens in it are the template's own.

    The rendered text is tokenized in one piece, as the model saw it in training, when the control tokens spelled in it are
    exactly those of the template. Otherwise a content spells one, and contents are tokenized apart, as plain text.

    Raises:
        ConfigurationError: The template refuses the messages, or changes them so that they cannot be told from it.
    """
    conversation = template.compose(messages)
    text, skeleton, contents = conversation.text, conversation.skeleton, conversation.contents
    control = vocabulary.control_pattern
    if control.findall(text) == control.findall(skeleton):
        return vocabulary.tokenize(text, parse_special=True)
    if not all(mark in skeleton for mark in contents):
        raise ConfigurationError(
            "a message spells a control token of the model, and the chat template changes or drops that message, so the "
            "two cannot be told apart. Pass `chat_template=` with a template that inserts contents as they are"
        )
    tokens: list[int] = []
    for part in re.split(f"({'|'.join(contents)})", skeleton):
        if part in contents:
            tokens += encode_text(contents[part], vocabulary)
        elif part:
            tokens += vocabulary.tokenize(part, parse_special=True)
    return tokens
