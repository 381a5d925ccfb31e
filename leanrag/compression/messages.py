"""Chat histories and prompts, compressed by any `Compressor`."""

from __future__ import annotations

import functools
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from leanrag.errors import BudgetError, CompressionError, ConfigurationError
from leanrag.evidence.protection import Protection, Span
from leanrag.protocols import Compressor, TokenCounter
from leanrag.text import split_sentences
from leanrag.types import Chunk, Compression, DroppedSpan, Hit, Message, Segment

__all__ = ["MessageCompression", "MessageCounter", "compress_messages", "compress_prompt"]

MessageCounter = Callable[[Sequence[Message]], int]
"""Tokens of messages as the model reads them, template included: `LanguageModel.count`."""


@dataclass(frozen=True, slots=True)
class MessageCompression:
    """A chat that takes fewer tokens, and what became of each of its messages.

    Attributes:
        messages: What is left, in order, with the roles they had.
        places: For each of `messages`, which of the given ones it is, from 0.
        compressions: For each of `messages`, how it was compressed: offsets are in its content, `seconds` its share of them all.
            None for one that stays as it was unseen.
        dropped: Which of the given messages are gone.
        tokens_before: Tokens of the messages as given.
        tokens_after: Tokens of `messages`, counted alike; at most the budget.
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
        """Share of the tokens that is left; 1 when there were none."""
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
    """Compress a prompt that no retriever made: instructions, a form, a few examples.

    Args:
        prompt: The text.
        compressor: How.
        count_tokens: Tokens of a text, as the reader counts them.
        budget: Most tokens of the result; exactly one of `budget` and `rate` is given.
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
    """Return the chat in at most `budget` tokens: the last messages as they are, older ones compressed, the newest best kept.

    Roles and order stay. A message of which nothing is left vanishes, together with those that it answers or that answer it, so
    that user and assistant still take turns. One that cannot vanish (a message beside it stays whole, or holds something
    protected) keeps its last sentence. What fits comes back as it is.

    Args:
        messages: The chat, oldest first.
        compressor: How older messages are compressed, as sources, the newest first.
        budget: Most tokens of the result.
        count_tokens: Tokens of a plain text, as the reader counts them.
        count_messages: Tokens of messages with all that their template adds; without it, the sum over their contents.
        keep_last: Messages at the end that stay whole. The last one of the user always does.
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
    if budget < 0 or keep_last < 0:
        raise ConfigurationError(f"`budget` and `keep_last` must be at least 0, got {budget!r} and {keep_last!r}")
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
    """What was asked, by place of the message.

    Attributes:
        messages: As given.
        whole: Messages that stay as they are.
        required: Spans of each message that must stay.
        exchanges: For each message, which exchange it belongs to.
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
        """Return the tokens of `messages`, 0 of none."""
        if self.count_messages is None or not messages:
            return sum(self.count_tokens(message.content) for message in messages)
        return self.count_messages(messages)

    def apply(self, pieces: Mapping[int, Compression | None]) -> tuple[Message, ...]:
        """Return the messages of `pieces`, compressed as they say."""
        return tuple(
            self.messages[place] if piece is None else replace(self.messages[place], content=piece.text)
            for place, piece in pieces.items()
        )

    def may_vanish(self, exchange: int) -> bool:
        """Whether nothing of an exchange must stay."""
        return not any(
            own == exchange and (place in self.whole or self.required[place])
            for place, own in enumerate(self.exchanges)
        )

    def is_older(self, place: int) -> bool:
        """Whether a message is one to compress."""
        return place not in self.whole and bool(self.messages[place].content.strip())


def _exchanges(messages: Sequence[Message]) -> tuple[int, ...]:
    """A message of the user and what answers it are an exchange; so is a system message."""
    numbers, users = [], 0
    for place, message in enumerate(messages):
        users += message.role == "user"
        numbers.append(-1 - place if message.role == "system" else users)
    return tuple(numbers)


def _fit(chat: _Chat, compressor: Compressor, budget: int) -> dict[int, Compression | None]:
    """Return what is left of the messages, by place, oldest first, in at most `budget` tokens.

    Each round lets exchanges vanish, asks for the last sentence of a message that cannot, or gives the compressor less room: what
    vanished leaves room to the others, and templates and tokenizers do not add up.
    """
    alive = list(range(len(chat.messages)))
    anchored: set[int] = set()
    slack = 0
    while True:
        older = [place for place in reversed(alive) if chat.is_older(place)]
        rest = chat.count([chat.messages[place] for place in alive])
        if not older and rest <= budget:
            return dict.fromkeys(alive)
        rest += slack - sum(chat.count_tokens(chat.messages[place].content) for place in older)
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
        empty = {place for place in older if not found[place].text.strip()}
        if empty:
            vanishing, lasting = _without(chat, alive, empty)
            if lasting & anchored:
                raise CompressionError(
                    f"{compressor.name!r} left nothing of a message, though `keep` named a span of it"
                )
            alive = [place for place in alive if place not in vanishing]
            anchored |= lasting
            continue
        pieces = {place: found.get(place) for place in alive}
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
    """Return what is left without the oldest exchange that may vanish, None when none may."""
    for place in alive:
        exchange = chat.exchanges[place]
        if chat.may_vanish(exchange):
            return [other for other in alive if chat.exchanges[other] != exchange]
    return None


def _without(chat: _Chat, alive: Sequence[int], empty: set[int]) -> tuple[set[int], set[int]]:
    """Return which messages vanish because `empty` ones are left with nothing, and which of these must not."""
    vanishing, lasting = set(empty), set()
    sides: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for place in alive:
        sides[chat.exchanges[place], chat.messages[place].role].append(place)
    for (exchange, _), side in sides.items():
        if not empty.issuperset(side):
            continue  # somebody still speaks for this side
        if chat.may_vanish(exchange):
            vanishing.update(place for place in alive if chat.exchanges[place] == exchange)
        else:
            vanishing.discard(side[-1])
            lasting.add(side[-1])
    return vanishing, lasting


def _compress(
    chat: _Chat, compressor: Compressor, older: Sequence[int], room: int, anchored: set[int]
) -> dict[int, Compression]:
    """Compress messages together, and return what became of each; of `anchored` ones the last sentence stays."""
    contents = [chat.messages[place].content for place in older]
    hits = [
        Hit(Chunk(f"message:{place}", 0, len(content), content, chat.messages[place].role), 1.0 / rank)
        for rank, (place, content) in enumerate(zip(older, contents, strict=True), start=1)
    ]
    keep = [
        [*chat.required[place], *(split_sentences(content)[-1:] if place in anchored else [])]
        for place, content in zip(older, contents, strict=True)
    ]
    compression = compressor.compress(
        hits, count_tokens=chat.count_tokens, budget=room, question=chat.question, keep=keep
    )
    return dict(zip(older, _by_source(compression, chat.count_tokens), strict=True))


def _by_source(compression: Compression, count_tokens: TokenCounter) -> Iterator[Compression]:
    """Take a compression of several sources apart."""
    own: defaultdict[int, list[Segment]] = defaultdict(list)
    for number, group in itertools.groupby(compression.segments, key=lambda segment: segment.source):
        if own[number]:
            raise CompressionError(f"{compression.method!r} mixes the sources; a chat needs a compressor that does not")
        own[number] = list(group)
    if compression.text.strip() and not own:
        raise CompressionError(f"{compression.method!r} tells no segments; a chat needs to know which text is whose")
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
