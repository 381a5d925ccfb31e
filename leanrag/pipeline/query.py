"""A question with its options, which are checked before any work begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from leanrag.checks import check_choice, check_share, check_whole
from leanrag.errors import ConfigurationError
from leanrag.prompting import STYLES, Style
from leanrag.types import CancelToken, Exchange, Where

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "AskOptions",
    "AutoTokens",
    "Earlier",
    "PromptOptions",
    "Query",
    "Settings",
    "check_counts",
    "check_question",
]

AutoTokens: TypeAlias = int | Literal["auto"]
"""A number of tokens; "auto" is the number in the profile of the model that is asked."""


class PromptOptions(TypedDict, total=False):
    """Options of a question at a temperature of 0. An option that is missing or None has the value that `open` got.

    Attributes:
        k: Chunks retrieved, at least 1.
        context_tokens: Most tokens of sources in the prompt.
        max_tokens: Most tokens of the answer.
        thinking_tokens: Most tokens of a reasoning model's thoughts, in addition; None: thoughts and answer share `max_tokens`.
        style: Form of the answer: "phrase", "sentence" or "explanation".
        where: Only documents whose metadata fulfils these conditions; see `leanrag.retrieval.filters`.
        timeout_seconds: Time limit of the generation.
    """

    k: int | None
    context_tokens: AutoTokens | None
    max_tokens: AutoTokens | None
    thinking_tokens: int | None
    style: Style | None
    where: Where | None
    timeout_seconds: float | None


class AskOptions(PromptOptions, total=False):
    """Options of a question.

    Attributes:
        temperature: 0, the default, for the same answer each time.
        seed: Repeats a draw when `temperature` is above 0.
        cancel: Stops the question from another thread.
    """

    temperature: float
    seed: int | None
    cancel: CancelToken | None


@dataclass(frozen=True, slots=True)
class Earlier:
    """What was said before a question.

    Attributes:
        exchanges: The turns, oldest first.
        history_tokens: Most tokens of them in the prompt; None for half of the window.
        rewrites: Whether a model rewrites the question if words alone do not complete it.
    """

    exchanges: tuple[Exchange, ...]
    history_tokens: AutoTokens | None = "auto"
    rewrites: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A question as it goes through the stages.

    Attributes:
        question: Plain text, not empty; in a conversation, in words that need no conversation.
        k: Chunks retrieved.
        context_tokens: Most tokens of sources in the prompt, None for all that the window has room for.
        max_tokens: Most tokens of the answer.
        thinking_tokens: Most tokens of a reasoning model's thoughts, in addition; None: thoughts and answer share `max_tokens`.
        style: Form of the answer; None for the style of the model's profile.
        where: Only documents whose metadata fulfils these conditions; see `leanrag.retrieval.filters`.
        temperature: 0 for the same answer each time.
        seed: Repeats a draw when `temperature` is above 0.
        timeout_seconds: Time limit of the generation.
        cancel: Stops this question alone; the caller's token cancels it too.
        asked: The words of the user, if `question` has others; otherwise "".
        earlier: What was said before; None outside of a conversation.
    """

    question: str
    k: int
    context_tokens: AutoTokens | None
    max_tokens: AutoTokens
    style: Style | None = None
    where: Where = field(default_factory=dict)
    temperature: float = 0.0
    seed: int | None = None
    timeout_seconds: float | None = None
    cancel: CancelToken = field(default_factory=CancelToken)
    thinking_tokens: int | None = None
    asked: str = ""
    earlier: Earlier | None = None

    @property
    def words(self) -> str:
        """The words of the user."""
        return self.asked or self.question

    @property
    def is_repeatable(self) -> bool:
        """Whether the same query gets the same answer."""
        return self.temperature == 0 or self.seed is not None


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of every question that does not set them itself.

    Attributes:
        k: Chunks retrieved.
        context_tokens: Most tokens of sources in the prompt, None for all that the window has room for.
        max_tokens: Most tokens of the answer.
        thinking_tokens: Most tokens of a reasoning model's thoughts, in addition; None: thoughts and answer share `max_tokens`.
        style: Form of the answer; None for the style of the model's profile.
        abstain_below: Confidence below which the answer is that the sources do not answer; None for what calibrations learned.
        self_check: Whether each model is asked how likely its own answer is right.

    Raises:
        ConfigurationError: A value is out of range.
    """

    k: int = 10
    context_tokens: AutoTokens | None = "auto"
    max_tokens: AutoTokens = "auto"
    style: Style | None = None
    abstain_below: float | None = None
    self_check: bool = False
    thinking_tokens: int | None = None

    def __post_init__(self) -> None:
        check_counts(k=self.k, context_tokens=self.context_tokens, max_tokens=self.max_tokens)
        check_whole(0, optional=True, thinking_tokens=self.thinking_tokens)
        check_choice(STYLES, optional=True, style=self.style)
        check_share(optional=True, abstain_below=self.abstain_below)

    def query(self, question: str, **options: Unpack[AskOptions]) -> Query:
        """Return the question with its options, and with these settings where it has none.

        Raises:
            ConfigurationError: The question is empty, or an option is out of range.
        """
        check_question(question)
        if unknown := sorted(options.keys() - AskOptions.__annotations__.keys()):
            raise TypeError(
                f"{unknown[0]!r} is not an option of a question; use {', '.join(AskOptions.__annotations__)}"
            )
        k, context_tokens, max_tokens = options.get("k"), options.get("context_tokens"), options.get("max_tokens")
        check_counts(k=k, context_tokens=context_tokens, max_tokens=max_tokens)
        style, thinking_tokens = options.get("style"), options.get("thinking_tokens")
        check_whole(0, optional=True, thinking_tokens=thinking_tokens)
        check_choice(STYLES, optional=True, style=style)
        cancel = CancelToken()
        if (of_caller := options.get("cancel")) is not None:
            of_caller.on_cancel(cancel.cancel)
        return Query(
            question,
            k=self.k if k is None else k,
            context_tokens=self.context_tokens if context_tokens is None else context_tokens,
            max_tokens=self.max_tokens if max_tokens is None else max_tokens,
            style=style or self.style,
            where=options.get("where") or {},
            temperature=options.get("temperature", 0.0),
            seed=options.get("seed"),
            timeout_seconds=options.get("timeout_seconds"),
            cancel=cancel,
            thinking_tokens=self.thinking_tokens if thinking_tokens is None else thinking_tokens,
        )


def check_question(question: str) -> None:
    """Check that a question is a text that is not empty.

    Raises:
        ConfigurationError: It is not a text, or it is empty or white space.
    """
    if not isinstance(question, str):
        raise ConfigurationError(f"a question must be a text, got {question!r:.80}. `ask_many` takes several questions")
    if not question.strip():
        raise ConfigurationError(f"a question must be a non-empty text, got {question!r}. Ask something")


def check_counts(**counts: AutoTokens | None) -> None:
    """Check that each count is at least 1, "auto" or None.

    Raises:
        ConfigurationError: A count is less.
    """
    numbers = {name: count for name, count in counts.items() if count != "auto"}
    check_whole(1, optional=True, **numbers)
