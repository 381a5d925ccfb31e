"""Caches: results that are reused instead of computed again."""

from leanrag.caching.answers import AnswerCache as AnswerCache
from leanrag.caching.answers import CacheStats as CacheStats
from leanrag.caching.generations import CachedModel as CachedModel
from leanrag.caching.match import MatchModel as MatchModel
from leanrag.caching.queries import QueryCache as QueryCache
from leanrag.caching.similar import SimilarQuestions as SimilarQuestions
from leanrag.caching.similar import SimilarStats as SimilarStats
from leanrag.caching.wrappers import CachedCompressor as CachedCompressor
from leanrag.caching.wrappers import CachedEmbedder as CachedEmbedder
from leanrag.caching.wrappers import CachedReranker as CachedReranker
