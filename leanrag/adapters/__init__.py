"""leanrag together with other programs: Redis, OpenTelemetry, LangChain, LlamaIndex and clients of MCP; an extra each.

`langchain`, `llama_index` and `mcp` are imported by their own names, for they need their packages at once.
"""

from leanrag.adapters.otel import SpanLedger as SpanLedger
from leanrag.adapters.redis import RedisAnswerCache as RedisAnswerCache
