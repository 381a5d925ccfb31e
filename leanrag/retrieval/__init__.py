"""Chunks to hits: store, embedders, indexes, retrievers, rerankers."""

from leanrag.retrieval.diverse import DiverseRetriever as DiverseRetriever
from leanrag.retrieval.embedding import SentenceTransformerEmbedder as SentenceTransformerEmbedder
from leanrag.retrieval.expanding import ExpandingRetriever as ExpandingRetriever
from leanrag.retrieval.growing_index import GrowingIndex as GrowingIndex
from leanrag.retrieval.index import FaissIndex as FaissIndex
from leanrag.retrieval.index import FlatIndex as FlatIndex
from leanrag.retrieval.multi_query import ModelRewriter as ModelRewriter
from leanrag.retrieval.multi_query import MultiQueryRetriever as MultiQueryRetriever
from leanrag.retrieval.rerankers import CrossEncoderReranker as CrossEncoderReranker
from leanrag.retrieval.rerankers import ReaderReranker as ReaderReranker
from leanrag.retrieval.retrievers import BM25Retriever as BM25Retriever
from leanrag.retrieval.retrievers import DenseRetriever as DenseRetriever
from leanrag.retrieval.retrievers import HybridRetriever as HybridRetriever
from leanrag.retrieval.store import Store as Store
