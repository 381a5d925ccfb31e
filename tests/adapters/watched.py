"""A slow model that tells when its streams begin and when they are closed."""

import asyncio
import threading

import pytest

from leanrag.testing import FakeModel

__all__ = ["Watched", "check_cancelling"]


class Watched(FakeModel):
    """Tells when it writes and when its stream was closed; a stream begins when it may."""

    def __init__(self):
        super().__init__("word " * 500, token_seconds=0.005)
        self.asked, self.may_begin, self.writes, self.closed = (threading.Event() for _ in range(4))
        self.may_begin.set()

    def _say(self, rendered):
        self.writes.set()
        yield from super()._say(rendered)

    def stream(self, prompt, options):
        self.asked.set()
        assert self.may_begin.wait(60)
        stream, closed = super().stream(prompt, options), self.closed

        class Told:
            __iter__, pieces = stream.__iter__, stream.pieces
            result = property(lambda self: stream.result)

            def close(self):
                stream.close()
                closed.set()

        return Told()


def check_cancelling(model, read):
    """Check that the model is stopped if a task that reads is cancelled: while the model writes, and before its stream is there."""

    async def cancel_when(event):
        task = asyncio.create_task(read())
        await asyncio.to_thread(event.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_when(model.writes))
    assert model.closed.is_set()
    for event in (model.asked, model.writes, model.closed, model.may_begin):
        event.clear()

    async def cancel_before_it_begins():
        await cancel_when(model.asked)
        assert not model.closed.is_set()
        model.may_begin.set()

    asyncio.run(cancel_before_it_begins())  # waits for its threads
    assert model.closed.is_set()
    assert not model.writes.is_set()
