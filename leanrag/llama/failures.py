"""The errors that an engine hands to its callers."""

from __future__ import annotations

from leanrag.errors import ContextOverflowError, GenerationCancelled, GenerationError, GenerationTimeout, QueueFullError
from leanrag.llama.requests import Request

__all__ = ["closed", "no_numbers", "queue_full", "stopped", "too_long", "unexpected"]


def too_long(model: str, request: Request, n_ctx: int) -> ContextOverflowError:
    """Return the error of a request that the window of `n_ctx` tokens cannot hold."""
    needed = len(request.tokens) + request.max_tokens
    return ContextOverflowError(
        f"the prompt of {len(request.tokens):,} tokens and {request.max_tokens:,} for the answer exceed the window of {n_ctx:,} "
        "tokens. Shorten the prompt, lower `max_tokens`, or load the model with a larger `n_ctx`",
        needed=needed,
        available=n_ctx,
        model=model,
    )


def queue_full(model: str, n_waiting: int) -> QueueFullError:
    """Return the error of a request that finds too many others waiting."""
    return QueueFullError(
        f"{n_waiting} requests already wait for {model}. Try again later, or load the model with a larger `max_queue`",
        model=model,
    )


def closed(model: str) -> GenerationError:
    """Return the error of a request to a closed engine."""
    return GenerationError(f"{model} is closed. Load the model again to use it", model=model)


def stopped(model: str, request: Request) -> GenerationError:
    """Return the error of a request that was cancelled, or whose time is over."""
    if request.stop_error is GenerationTimeout:
        return GenerationTimeout(f"{model} did not answer within the time limit", model=model)
    return GenerationCancelled(f"the request to {model} was cancelled", model=model)


def no_numbers(model: str) -> GenerationError:
    """Return the error of a request whose logits are not numbers."""
    return GenerationError(
        f"{model} computed logits that are not numbers. Load another file of the model, or ask something else",
        model=model,
    )


def unexpected(model: str, error: Exception) -> GenerationError:
    """Return the error of a request that ran when the engine failed."""
    failure = GenerationError(f"{model} failed: {error!r}. Ask again", model=model)
    failure.__cause__ = error
    return failure
