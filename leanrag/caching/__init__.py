"""Caches: results that are reused instead of computed again."""

from leanrag.caching.queries import QueryCache as QueryCache
