"""Models behind an OpenAI-compatible HTTP API: vLLM, llama-server, Ollama, hosted ones.

Nothing is sent until a `RemoteModel` is asked to generate, and then only to the host that it was given. Answers are streamed also
where the caller waits for the whole: that tells a slow server from a dead one, and lets a cancelled request end at once. What a
server says is parsed and never trusted; the key stands in no representation, log, trace or exception.

Modules in the order of data flow: `model` (the public class), `worker` (the thread that talks), `exchange` (attempts at one
prompt), `keys`, `waiting` (time limits, retries, the breaker), `protocol` (what servers say).
"""

from leanrag.ledger import Prices as Prices
from leanrag.remote.keys import EnvironmentKey as EnvironmentKey
from leanrag.remote.keys import env as env
from leanrag.remote.model import RemoteModel as RemoteModel
from leanrag.remote.model import RemoteUsage as RemoteUsage
from leanrag.remote.protocol import EventDecoder as EventDecoder
from leanrag.remote.safety import Safety as Safety
from leanrag.remote.waiting import Clock as Clock
from leanrag.remote.waiting import Retry as Retry
from leanrag.remote.waiting import Timeouts as Timeouts
from leanrag.remote.waiting import retry_after_seconds as retry_after_seconds
