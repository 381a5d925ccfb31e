"""Services of other programs behind the Protocols of leanrag: a cache of answers in Redis, and spans for OpenTelemetry."""

from leanrag.adapters.otel import SpanLedger as SpanLedger
from leanrag.adapters.redis import RedisAnswerCache as RedisAnswerCache
