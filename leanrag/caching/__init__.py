"""What was computed before and need not be computed again."""

from leanrag.caching.queries import QueryCache as QueryCache
