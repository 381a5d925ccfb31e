"""Models behind an OpenAI-compatible HTTP API: vLLM, llama-server, Ollama, hosted models.

Nothing is sent until a `RemoteModel` is asked to generate, and then only to the host of its `base_url`. Answers are always
streamed: this tells a slow server from a dead server, and a cancelled request can end at once. Responses of a server are checked.
The key is in no representation, log, trace or exception.

The modules, in the order of data flow: `model`, `embedder` and `reranker` (the public classes), `connection` (what they share),
`worker` (its thread), `attempts` (a request with its retries), `exchange` (a completion), `calls` (a request with a JSON
response), `refusals` (the fields that a model accepts), `body`, `keys`, `safety`, `waiting` (time limits, the breaker), `events`
and `protocol` (the responses of servers), `failures` (the errors), `bill` (what embedders and rerankers have used).
"""

from leanrag.ledger import Prices as Prices
from leanrag.remote.connection import ConnectionKeywords as ConnectionKeywords
from leanrag.remote.embedder import RemoteEmbedder as RemoteEmbedder
from leanrag.remote.events import EventDecoder as EventDecoder
from leanrag.remote.keys import EnvironmentKey as EnvironmentKey
from leanrag.remote.keys import env as env
from leanrag.remote.model import RemoteModel as RemoteModel
from leanrag.remote.model import RemoteUsage as RemoteUsage
from leanrag.remote.reranker import RemoteReranker as RemoteReranker
from leanrag.remote.safety import Safety as Safety
from leanrag.remote.waiting import Clock as Clock
from leanrag.remote.waiting import Retry as Retry
from leanrag.remote.waiting import Timeouts as Timeouts
from leanrag.remote.waiting import retry_after_seconds as retry_after_seconds
