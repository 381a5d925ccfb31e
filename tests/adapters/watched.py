"""A slow model that tells when its stream was closed."""

import threading

from leanrag.testing import FakeModel


class Watched(FakeModel):
    """Tells when its stream was closed."""

    def __init__(self):
        super().__init__("word " * 500, token_seconds=0.005)
        self.closed = threading.Event()

    def stream(self, prompt, options):
        stream, closed = super().stream(prompt, options), self.closed

        class Told:
            __iter__, pieces = stream.__iter__, stream.pieces
            result = property(lambda self: stream.result)

            def close(self):
                stream.close()
                closed.set()

        return Told()
