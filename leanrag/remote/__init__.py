"""Models behind an OpenAI-compatible HTTP API: vLLM, llama-server, Ollama, hosted ones.

Nothing is sent until a `RemoteModel` is asked to generate, and then only to the host that it was given. Answers are streamed also
where the caller waits for the whole: that tells a slow server from a dead one, and lets a cancelled request end at once. What a
server says is parsed and never trusted; the key stands in no representation, log, trace or exception.

Modules in the order of data flow: `model` (the public class), `worker` (the thread that talks), `exchange` (attempts at one
prompt), `keys`, `waiting` (time limits, retries, the breaker), `protocol` (what servers say).
"""

from leanrag.ledger import Prices
from leanrag.remote.keys import EnvironmentKey, env
from leanrag.remote.model import RemoteModel, RemoteOptions, RemoteStream, RemoteUsage
from leanrag.remote.protocol import EventDecoder
from leanrag.remote.waiting import Clock, retry_after_seconds

__all__ = [
    "Clock",
    "EnvironmentKey",
    "EventDecoder",
    "Prices",
    "RemoteModel",
    "RemoteOptions",
    "RemoteStream",
    "RemoteUsage",
    "env",
    "retry_after_seconds",
]
