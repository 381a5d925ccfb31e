"""All exceptions that leanrag raises on purpose.

    LeanRAGError
      ConfigurationError     (ValueError)   an argument, or a combination of arguments, cannot work
        TargetError                         .target .nearest, in seconds
      MissingDependencyError (ImportError)  .package .extra
      DocumentError                         .path
      IndexMismatchError                    the folder was built with another embedder
      StorageError                          .path
        DamageError                         what is stored is not what was written
        EngineError                         .engine .retryable
        ShardError                          a shard of a corpus cannot be reached
      EmbeddingError                        an embedder raised another error
      BudgetError                           .needed .available, in tokens
      CompressionError
      GenerationError                       .model
        ModelLoadError                      .path
        ContextOverflowError (BudgetError)  .needed .available
        QueueFullError
        GenerationCancelled
        GenerationTimeout
        RemoteError                         .status .retryable .retry_after
      ConversationError                     another question of the conversation is being answered
      TrainingError                         .step

A message says what was wrong (the value), what is allowed, and what to do next.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanrag.types import AddReport

__all__ = [
    "BudgetError",
    "CompressionError",
    "ConfigurationError",
    "ContextOverflowError",
    "ConversationError",
    "DamageError",
    "DocumentError",
    "EmbeddingError",
    "EngineError",
    "GenerationCancelled",
    "GenerationError",
    "GenerationTimeout",
    "IndexMismatchError",
    "LeanRAGError",
    "MissingDependencyError",
    "ModelLoadError",
    "QueueFullError",
    "RemoteError",
    "ShardError",
    "StorageError",
    "TargetError",
    "TrainingError",
]


class LeanRAGError(Exception):
    """Base class of all errors that leanrag raises on purpose. They can be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[LeanRAGError], arguments: tuple[object, ...], attributes: dict[str, object]) -> LeanRAGError:
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


class ConfigurationError(LeanRAGError, ValueError):
    """An argument, or a combination of arguments, cannot work."""


class TargetError(ConfigurationError):
    """No number of replicas answers in the time that was asked for.

    Attributes:
        target: Seconds that were asked for.
        nearest: The fewest seconds that can be met.
    """

    def __init__(self, message: str, *, target: float, nearest: float) -> None:
        super().__init__(message)
        self.target = target
        self.nearest = nearest


class MissingDependencyError(LeanRAGError, ImportError):
    """An optional package is needed but not installed.

    Attributes:
        package: The package to install.
        extra: The extra of leanrag that installs it.
    """

    def __init__(self, message: str, *, package: str, extra: str) -> None:
        super().__init__(message)
        self.package = package
        self.extra = extra


class DocumentError(LeanRAGError):
    """A document cannot be read.

    Attributes:
        path: The file; None if the document is not a file.
        report: What `add` did with the other documents; None if the error is not from `add`.
    """

    def __init__(self, message: str, *, path: str | Path | None = None, report: AddReport | None = None) -> None:
        super().__init__(message)
        self.path = None if path is None else Path(path)
        self.report = report


class EmbeddingError(LeanRAGError):
    """An embedder raised an error that is not of this library; that error is the `__cause__`."""


class IndexMismatchError(LeanRAGError):
    """The folder was built with another embedder, dimension or format."""


class StorageError(LeanRAGError):
    """A folder, database or cache file cannot be read or written.

    Attributes:
        path: The file or folder.
    """

    def __init__(self, message: str, *, path: str | Path) -> None:
        super().__init__(message)
        self.path = Path(path)


class DamageError(StorageError):
    """What is stored is not what was written; `leanrag repair` may repair it."""


class EngineError(StorageError):
    """A database or search engine elsewhere cannot be reached, refuses, or is not what was set up; `path` is empty.

    Attributes:
        engine: Name and address of the engine, without a password.
        retryable: Whether the same call may succeed later.
    """

    def __init__(self, message: str, *, engine: str, retryable: bool = False) -> None:
        super().__init__(message, path="")
        self.engine, self.retryable = engine, retryable


class ShardError(StorageError):
    """A shard of a corpus cannot be reached: its folder or its machine is gone, or what it stores is damaged."""


class BudgetError(LeanRAGError):
    """The text that must be kept does not fit into the budget.

    Attributes:
        needed: Tokens that the text needs.
        available: Tokens that the budget has.
    """

    def __init__(self, message: str, *, needed: int, available: int) -> None:
        Exception.__init__(self, message)
        self.needed = needed
        self.available = available


class CompressionError(LeanRAGError):
    """A compressor failed."""


class GenerationError(LeanRAGError):
    """A model failed.

    Attributes:
        model: Name of the model.
    """

    def __init__(self, message: str, *, model: str = "") -> None:
        super().__init__(message)
        self.model = model


class ModelLoadError(GenerationError):
    """A model file cannot be loaded.

    Attributes:
        path: The file.
    """

    def __init__(self, message: str, *, path: str | Path, model: str = "") -> None:
        super().__init__(message, model=model)
        self.path = Path(path)


class ContextOverflowError(BudgetError, GenerationError):
    """The prompt and the tokens reserved for the answer do not fit into the window of the model."""

    def __init__(self, message: str, *, needed: int, available: int, model: str = "") -> None:
        BudgetError.__init__(self, message, needed=needed, available=available)
        self.model = model


class QueueFullError(GenerationError):
    """The model's queue of waiting requests is full."""


class GenerationCancelled(GenerationError):
    """The request was cancelled."""


class GenerationTimeout(GenerationError, TimeoutError):
    """The request reached its time limit."""


class RemoteError(GenerationError):
    """A remote model failed.

    Attributes:
        status: HTTP status; None if there was no response.
        retryable: Whether the same request may succeed later.
        retry_after: Seconds that the server asked the client to wait; None if it did not ask.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str = "",
        status: int | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, model=model)
        self.status = status
        self.retryable = retryable
        self.retry_after = retry_after


class ConversationError(LeanRAGError):
    """A conversation was asked while another question of it is being answered."""


class TrainingError(LeanRAGError):
    """A training cannot go on; its last checkpoint is good.

    Attributes:
        step: Steps that were made.
    """

    def __init__(self, message: str, *, step: int = 0) -> None:
        super().__init__(message)
        self.step = step
