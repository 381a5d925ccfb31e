"""Streams for asyncio: the work runs in threads, and the event loop stays free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from leanrag.pipeline.turn import AnswerStream
from leanrag.types import Answer

__all__ = ["answer_of", "pieces_of"]


async def answer_of(stream: AnswerStream) -> Answer:
    """Return the answer of a stream; cancelling the task stops the generation."""
    try:
        return await asyncio.to_thread(lambda: stream.answer)
    except asyncio.CancelledError:
        stream.close()
        raise


async def pieces_of(stream: AnswerStream) -> AsyncIterator[str]:
    """Yield the text of a stream as it comes; leaving the loop stops the generation."""
    pieces = iter(stream)
    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece
    finally:
        stream.close()
