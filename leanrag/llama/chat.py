"""Messages to tokens, through the chat template that the GGUF carries.

Two things are untrusted here. The template came with the file: it is rendered in a sandbox, with its output bounded. The
contents of messages came from anywhere: no text in them may become a control token, whatever it spells.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

import jinja2
import jinja2.sandbox
import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError
from leanrag.llama.vocabulary import Vocabulary
from leanrag.types import Message

__all__ = ["ChatTemplate", "encode_chat", "encode_text", "locate_tokens"]

_MAX_TEMPLATE_CHARS = 64 * 1024
_WORD_JOINER = "\u2060"  # zero width: breaks a spelled-out token without changing how the text looks


class ChatTemplate:
    """A chat template, compiled in a sandbox.

    Args:
        source: Jinja source, as in the GGUF's `tokenizer.chat_template`.
        bos: Text of the BOS token.
        eos: Text of the EOS token.

    Raises:
        ConfigurationError: The source is too large or is not a valid Jinja template.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        if len(source) > _MAX_TEMPLATE_CHARS:
            raise ConfigurationError(
                f"the chat template has {len(source):,} characters; at most {_MAX_TEMPLATE_CHARS:,} are read. "
                "Pass `chat_template=` with a shorter one"
            )
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ConfigurationError(
                f"the model's chat template is not valid ({error}). Pass `chat_template=` with a correct one"
            ) from error
        self._variables = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": True, "tools": None}

    def render(self, messages: Sequence[Message]) -> str:
        """Return the conversation as text, ending where the assistant begins to speak.

        A template that refuses a system message gets it as the beginning of the first user message.

        Raises:
            ConfigurationError: The template refuses these messages.
        """
        try:
            return self._render(messages)
        except jinja2.TemplateError as error:
            if len(messages) > 1 and messages[0].role == "system" and messages[1].role == "user":
                merged = Message("user", f"{messages[0].content}\n\n{messages[1].content}")
                return self.render([merged, *messages[2:]])
            raise ConfigurationError(
                f"the model's chat template refuses these messages ({[m.role for m in messages]}): {error}"
            ) from error

    def _render(self, messages: Sequence[Message]) -> str:
        limit = sum(len(message.content) for message in messages) * 4 + 4 * _MAX_TEMPLATE_CHARS
        pieces, size = [], 0
        rows = [{"role": message.role, "content": message.content} for message in messages]
        try:
            for piece in self._template.generate(messages=rows, **self._variables):
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise jinja2.TemplateRuntimeError(f"it wrote more than {limit:,} characters")
        except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, AttributeError) as error:
            raise jinja2.TemplateRuntimeError(f"{type(error).__name__}: {error}") from error
        return "".join(pieces)


def _refuse(message: str) -> str:
    raise jinja2.TemplateRuntimeError(message)


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
    rendered = template.render(messages)
    marks = [f"{secrets.token_hex(12)}{i:04d}" for i in range(len(messages))]
    skeleton = template.render([Message(m.role, mark) for m, mark in zip(messages, marks, strict=True)])
    control = vocabulary.control_pattern
    if control.findall(rendered) == control.findall(skeleton):
        return vocabulary.tokenize(rendered, parse_special=True)
    if not all(mark in skeleton for mark in marks):
        raise ConfigurationError(
            "a message spells a control token of the model, and the chat template changes or drops that message, so the "
            "two cannot be told apart. Pass `chat_template=` with a template that inserts contents as they are"
        )
    contents = {mark: message.content for mark, message in zip(marks, messages, strict=True)}
    tokens: list[int] = []
    for part in re.split(f"({'|'.join(marks)})", skeleton):
        if part in contents:
            tokens += encode_text(contents[part], vocabulary)
        elif part:
            tokens += vocabulary.tokenize(part, parse_special=True)
    return tokens
