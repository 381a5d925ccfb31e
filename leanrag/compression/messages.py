"""Chat histories and prompts, compressed by any `Compressor`."""

from __future__ import annotations

import functools
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from leanrag.checks import check_whole
from leanrag.errors import BudgetError, CompressionError, ConfigurationError
from leanrag.evidence.protection import Protection
from leanrag.protocols import Compressor, TokenCounter
from leanrag.spans import Span
from leanrag.text import split_sentences
from leanrag.types import Chunk, Compression, DroppedSpan, Hit, Message, Segment

__all__ = ["MessageCompression", "MessageCounter", "compress_messages", "compress_prompt"]

MessageCounter = Callable[[Sequence[Message]], int]
"""Tokens of messages as the model reads them, template included: `LanguageModel.count`."""


@dataclass(frozen=True, slots=True)
class MessageCompression:
    """A chat that takes fewer tokens, and what became of each of its messages.

    Attributes:
        messages: The messages that remain, in order, with their roles.
        places: For each of `messages`, its index in the chat that was passed in, from 0.
        compressions: For each of `messages`, how it was compressed: offsets are in its content, and `seconds` is its share of the
            whole time. None for a message that the compressor did not see.
        dropped: Indices of the messages that were dropped.
        tokens_before: Tokens of the chat that was passed in.
        tokens_after: Tokens of `messages`, counted in the same way; at most the budget.
        method: The compressor's name.
        seconds: Time it took.
    """

    messages: tuple[Message, ...]
    places: tuple[int, ...]
    compressions: tuple[Compression | None, ...]
    dropped: tuple[int, ...]
    tokens_before: int
    tokens_after: int
    method: str
    seconds: float

    @property
    def rate(self) -> float:
        """Share of the tokens that remains; 1 if there were no tokens."""
        return self.tokens_after / self.tokens_before if self.tokens_before else 1.0


def compress_prompt(
    prompt: str,
    compressor: Compressor,
    *,
    count_tokens: TokenCounter,
    budget: int | None = None,
    rate: float | None = None,
    question: str = "",
    keep: Sequence[Span] = (),
    protection: Protection | None = None,
) -> Compression:
    """Compress a prompt that was not retrieved: instructions, a form, a few examples.

    Args:
        prompt: The text.
        compressor: Compresses the prompt.
        count_tokens: Tokens of a text, as the reader counts them.
        budget: Most tokens of the result. Pass either `budget` or `rate`.
        rate: Share of the tokens that may stay, in (0, 1].
        question: What the reader will be asked; "" for nothing in particular.
        keep: Spans of `prompt` that must stay.
        protection: What else must stay. By default whatever is recognised, wherever it stands: instructions say their codes,
            numbers and negations once.

    Raises:
        BudgetError: What must stay does not fit.
        ConfigurationError: An argument cannot work.
        CompressionError: The compressor failed.
    """
    required = (protection or Protection(everywhere=True)).required(prompt, keep)
    return compressor.compress(
        prompt, count_tokens=count_tokens, budget=budget, rate=rate, question=question, keep=required
    )


def compress_messages(
    messages: Sequence[Message],
    compressor: Compressor,
    *,
    budget: int,
    count_tokens: TokenCounter,
    count_messages: MessageCounter | None = None,
    keep_last: int = 2,
    keep_system: bool = True,
    question: str | None = None,
    protection: Protection | None = None,
) -> MessageCompression:
    """Return the chat in at most `budget` tokens: the last messages unchanged, older messages compressed.

    Roles and order stay. The older a message is, the more it is shortened. A message that becomes empty is dropped together with
    the messages that it answers or that answer it, so that user and assistant still take turns. If these must stay (a message
    beside it stays whole, or holds protected text), it keeps its last sentence. A chat that fits is returned unchanged.

    Args:
        messages: The chat, oldest first.
        compressor: Compresses the older messages, as sources, the newest first.
        budget: Most tokens of the result.
        count_tokens: Tokens of a plain text, as the reader counts them.
        count_messages: Tokens of messages, their template included; None for the sum over their contents.
        keep_last: Number of messages at the end that stay whole. The last message of the user always stays whole.
        keep_system: Whether system messages stay whole.
        question: What matters in older messages; by default the last message of the user.
        protection: What must stay of older messages: its `patterns`, and all that it recognises if it says `everywhere`.

    Raises:
        BudgetError: What must stay does not fit; `needed` is what it takes, in tokens of the whole chat.
        ConfigurationError: An argument cannot work.
        CompressionError: The compressor failed, or did not say which part of its result is which source.
    """
    started = time.perf_counter()
    messages = tuple(messages)
    for message in messages:
        if not isinstance(message, Message):
            raise ConfigurationError(f"a chat is a sequence of `Message`, got {message!r:.100}")
    check_whole(0, budget=budget, keep_last=keep_last)
    asked = max((i for i, message in enumerate(messages) if message.role == "user"), default=None)
    whole = set(range(max(0, len(messages) - keep_last), len(messages))) | ({asked} if asked is not None else set())
    whole |= {i for i, message in enumerate(messages) if keep_system and message.role == "system"}
    chat = _Chat(
        messages=messages,
        whole=frozenset(whole),
        required=tuple(
            [] if i in whole or protection is None else protection.required(message.content)
            for i, message in enumerate(messages)
        ),
        exchanges=_exchanges(messages),
        question=question if question is not None else "" if asked is None else messages[asked].content,
        count_tokens=functools.cache(count_tokens),
        count_messages=count_messages,
    )
    tokens_before = chat.count(messages)
    if tokens_before <= budget:
        pieces: dict[int, Compression | None] = dict.fromkeys(range(len(messages)))
    else:
        pieces = _fit(chat, compressor, budget)
    result = chat.apply(pieces)
    return MessageCompression(
        messages=result,
        places=tuple(pieces),
        compressions=tuple(pieces.values()),
        dropped=tuple(sorted(set(range(len(messages))) - set(pieces))),
        tokens_before=tokens_before,
        tokens_after=chat.count(result),
        method=compressor.name,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True)
class _Chat:
    """The chat and the settings; the index of a message is its position in the chat.

    Attributes:
        messages: The whole chat, oldest first.
        whole: Messages that stay as they are.
        required: Spans of each message that must stay.
        exchanges: For each message, the number of its exchange.
        question: What matters.
        count_tokens: Tokens of a text.
        count_messages: Tokens of messages; None for the sum over their contents.
    """

    messages: tuple[Message, ...]
    whole: frozenset[int]
    required: tuple[list[Span], ...]
    exchanges: tuple[int, ...]
    question: str
    count_tokens: TokenCounter
    count_messages: MessageCounter | None

    def count(self, messages: Sequence[Message]) -> int:
        """Return the tokens of `messages`; 0 if there are no messages."""
        if self.count_messages is None or not messages:
            return sum(self.count_tokens(message.content) for message in messages)
        return self.count_messages(messages)

    def apply(self, pieces: Mapping[int, Compression | None]) -> tuple[Message, ...]:
        """Return the messages of `pieces`, compressed as they say."""
        return tuple(
            self.messages[i] if piece is None else replace(self.messages[i], content=piece.text)
            for i, piece in pieces.items()
        )

    def may_vanish(self, exchange: int) -> bool:
        """Whether an exchange holds nothing that must stay."""
        return not any(
            own == exchange and (i in self.whole or self.required[i]) for i, own in enumerate(self.exchanges)
        )

    def is_older(self, i: int) -> bool:
        """Whether a message is to be compressed."""
        return i not in self.whole and bool(self.messages[i].content.strip())


def _exchanges(messages: Sequence[Message]) -> tuple[int, ...]:
    """Number the exchanges: a message of the user with its answers, or a system message."""
    numbers, users = [], 0
    for i, message in enumerate(messages):
        users += message.role == "user"
        numbers.append(-1 - i if message.role == "system" else users)
    return tuple(numbers)


def _fit(chat: _Chat, compressor: Compressor, budget: int) -> dict[int, Compression | None]:
    """Return the compressions of the messages that remain, by index, oldest first, in at most `budget` tokens.

    Each round drops exchanges, keeps the last sentence of a message that must stay, or gives the compressor less room. Several
    rounds may be needed: a dropped exchange leaves room to the others, and the tokens of the parts do not add up to those of
    the whole.
    """
    alive = list(range(len(chat.messages)))
    anchored: set[int] = set()
    slack = 0
    while True:
        older = [i for i in reversed(alive) if chat.is_older(i)]
        rest = chat.count([chat.messages[i] for i in alive])
        if not older and rest <= budget:
            return dict.fromkeys(alive)
        rest += slack - sum(chat.count_tokens(chat.messages[i].content) for i in older)
        room = budget - rest
        if room < 0 and (fewer := _without_oldest(chat, alive)) is not None:
            alive = fewer
            continue
        if not older:
            raise _too_small(rest, budget)
        try:
            found = _compress(chat, compressor, older, max(0, room), anchored)
        except BudgetError as error:
            if (fewer := _without_oldest(chat, alive)) is None:
                raise _too_small(rest + error.needed, budget) from error
            alive = fewer
            continue
        empty = {i for i in older if not found[i].text.strip()}
        if empty:
            vanishing, lasting = _without(chat, alive, empty)
            if lasting & anchored:
                raise CompressionError(
                    f"{compressor.name!r} removed a whole message, although `keep` had a span of it. Use another compressor"
                )
            alive = [i for i in alive if i not in vanishing]
            anchored |= lasting
            continue
        pieces = {i: found.get(i) for i in alive}
        total = chat.count(chat.apply(pieces))
        if total <= budget:
            return pieces
        if room < 0:
            raise _too_small(total, budget)
        slack += total - budget


def _too_small(needed: int, budget: int) -> BudgetError:
    return BudgetError(
        f"what must stay of the chat takes {needed:,} tokens, and the budget is {budget:,}. Raise the budget, shorten the system"
        " message or the last messages, or protect less",
        needed=needed,
        available=budget,
    )


def _without_oldest(chat: _Chat, alive: Sequence[int]) -> list[int] | None:
    """Return the messages without the oldest exchange that may be dropped; None if every exchange must stay."""
    for i in alive:
        exchange = chat.exchanges[i]
        if chat.may_vanish(exchange):
            return [other for other in alive if chat.exchanges[other] != exchange]
    return None


def _without(chat: _Chat, alive: Sequence[int], empty: set[int]) -> tuple[set[int], set[int]]:
    """Return the messages to drop because the `empty` messages have no text, and the empty messages that must stay."""
    vanishing, lasting = set(empty), set()
    sides: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for i in alive:
        sides[chat.exchanges[i], chat.messages[i].role].append(i)
    for (exchange, _), side in sides.items():
        if not empty.issuperset(side):
            continue  # somebody still speaks for this side
        if chat.may_vanish(exchange):
            vanishing.update(i for i in alive if chat.exchanges[i] == exchange)
        else:
            vanishing.discard(side[-1])
            lasting.add(side[-1])
    return vanishing, lasting


def _compress(
    chat: _Chat, compressor: Compressor, older: Sequence[int], room: int, anchored: set[int]
) -> dict[int, Compression]:
    """Compress messages together, and return the compression of each; `anchored` messages keep their last sentence."""
    contents = [chat.messages[i].content for i in older]
    hits = [
        Hit(Chunk(f"message:{i}", 0, len(content), content, chat.messages[i].role), 1.0 / rank)
        for rank, (i, content) in enumerate(zip(older, contents, strict=True), start=1)
    ]
    keep = [
        [*chat.required[i], *(split_sentences(content)[-1:] if i in anchored else [])]
        for i, content in zip(older, contents, strict=True)
    ]
    compression = compressor.compress(
        hits, count_tokens=chat.count_tokens, budget=room, question=chat.question, keep=keep
    )
    return dict(zip(older, _by_source(compression, chat.count_tokens), strict=True))


def _by_source(compression: Compression, count_tokens: TokenCounter) -> Iterator[Compression]:
    """Yield the compression of each source of a compression of several."""
    own: defaultdict[int, list[Segment]] = defaultdict(list)
    for number, group in itertools.groupby(compression.segments, key=lambda segment: segment.source):
        if own[number]:
            raise CompressionError(f"{compression.method!r} mixes the sources. Use a compressor that keeps their order")
        own[number] = list(group)
    if compression.text.strip() and not own:
        raise CompressionError(
            f"{compression.method!r} returned no segments, so the messages cannot be told apart. Use another compressor"
        )
    dropped: defaultdict[int, list[DroppedSpan]] = defaultdict(list)
    for span in compression.dropped:
        dropped[span.source].append(replace(span, source=0))
    for number, hit in enumerate(compression.sources):
        segments = own[number]
        start, end = (segments[0].start, segments[-1].end) if segments else (0, 0)
        text, tokens = compression.text[start:end], count_tokens(hit.chunk.text)
        yield Compression(
            text=text,
            segments=tuple(replace(s, start=s.start - start, end=s.end - start, source=0) for s in segments),
            dropped=tuple(dropped[number]),
            sources=(hit,),
            tokens_before=tokens,
            tokens_after=count_tokens(text) if text else 0,
            method=compression.method,
            seconds=compression.seconds * tokens / max(1, compression.tokens_before),
        )
