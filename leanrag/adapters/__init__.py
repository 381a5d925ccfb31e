"""leanrag together with other programs: vector engines, Redis, OpenTelemetry, LangChain, LlamaIndex, Haystack, MCP; an extra each.

`langchain`, `llama_index`, `haystack` and `mcp` are imported by their own names, because they need their packages at once.
"""

from leanrag.adapters.milvus import MilvusIndex as MilvusIndex
from leanrag.adapters.otel import SpanLedger as SpanLedger
from leanrag.adapters.pgvector import PgVectorIndex as PgVectorIndex
from leanrag.adapters.postgres_ledger import PostgresLedger as PostgresLedger
from leanrag.adapters.qdrant import QdrantIndex as QdrantIndex
from leanrag.adapters.redis import RedisAnswerCache as RedisAnswerCache
from leanrag.adapters.redis import RedisResults as RedisResults
