"""Answer questions from your documents with small local models, and show what each answer cost and what supports it.

The names here are what an application needs. The rest of the public names are in the wings: `leanrag.types`,
`leanrag.retrieval`, `leanrag.evidence`, `leanrag.compression`, `leanrag.routing`, `leanrag.llama`, `leanrag.remote` and so on.

`import leanrag` loads the standard library only; each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # quiet, unless the application asks

if TYPE_CHECKING:  # what type checkers see; a test keeps it and `_HOMES` alike
    from leanrag import caching as caching
    from leanrag import compression as compression
    from leanrag import documents as documents
    from leanrag import evaluation as evaluation
    from leanrag import evidence as evidence
    from leanrag import llama as llama
    from leanrag import models as models
    from leanrag import pipeline as pipeline
    from leanrag import planning as planning
    from leanrag import prompting as prompting
    from leanrag import remote as remote
    from leanrag import retrieval as retrieval
    from leanrag import routing as routing
    from leanrag import types as types
    from leanrag.compression.extractive import ExtractiveCompressor as ExtractiveCompressor
    from leanrag.compression.messages import compress_messages as compress_messages
    from leanrag.compression.pasted.calling import compress as compress
    from leanrag.documents.chunking import DocumentChunker as DocumentChunker
    from leanrag.errors import BudgetError as BudgetError
    from leanrag.errors import CompressionError as CompressionError
    from leanrag.errors import ConfigurationError as ConfigurationError
    from leanrag.errors import ContextOverflowError as ContextOverflowError
    from leanrag.errors import DocumentError as DocumentError
    from leanrag.errors import GenerationCancelled as GenerationCancelled
    from leanrag.errors import GenerationError as GenerationError
    from leanrag.errors import GenerationTimeout as GenerationTimeout
    from leanrag.errors import IndexMismatchError as IndexMismatchError
    from leanrag.errors import LeanRAGError as LeanRAGError
    from leanrag.errors import MissingDependencyError as MissingDependencyError
    from leanrag.errors import ModelLoadError as ModelLoadError
    from leanrag.errors import QueueFullError as QueueFullError
    from leanrag.errors import RemoteError as RemoteError
    from leanrag.errors import StorageError as StorageError
    from leanrag.evidence.packing import EvidencePacker as EvidencePacker
    from leanrag.generation import BaseLanguageModel as BaseLanguageModel
    from leanrag.generation import PieceStream as PieceStream
    from leanrag.ledger import Limits as Limits
    from leanrag.ledger import Prices as Prices
    from leanrag.llama.embedder import LlamaCppEmbedder as LlamaCppEmbedder
    from leanrag.llama.model import LlamaCppModel as LlamaCppModel
    from leanrag.llama.placement.layers import GpuOptions as GpuOptions
    from leanrag.models import pull as pull
    from leanrag.pipeline.opening import open as open  # noqa: A004 - leanrag.open, as gzip.open
    from leanrag.pipeline.rag import Rag as Rag
    from leanrag.pipeline.turn import AnswerStream as AnswerStream
    from leanrag.prompting import PromptTemplate as PromptTemplate
    from leanrag.protocols import GenerateOptions as GenerateOptions
    from leanrag.remote.embedder import RemoteEmbedder as RemoteEmbedder
    from leanrag.remote.model import RemoteModel as RemoteModel
    from leanrag.remote.reranker import RemoteReranker as RemoteReranker
    from leanrag.retrieval.embedding import SentenceTransformerEmbedder as SentenceTransformerEmbedder
    from leanrag.routing.calibration.stored import Calibration as Calibration
    from leanrag.routing.cascade import Cascade as Cascade
    from leanrag.routing.query_router import QueryRouter as QueryRouter
    from leanrag.types import AddReport as AddReport
    from leanrag.types import Answer as Answer
    from leanrag.types import CancelToken as CancelToken
    from leanrag.types import Chunk as Chunk
    from leanrag.types import Citation as Citation
    from leanrag.types import Document as Document
    from leanrag.types import Explanation as Explanation
    from leanrag.types import Hit as Hit
    from leanrag.types import Message as Message
    from leanrag.types import Usage as Usage

_WINGS = frozenset(
    (
        "caching compression documents evaluation evidence llama models pipeline planning prompting remote retrieval routing"
        " types"
    ).split()
)
_HOMES = {
    "compression.extractive": "ExtractiveCompressor",
    "compression.messages": "compress_messages",
    "compression.pasted.calling": "compress",
    "documents.chunking": "DocumentChunker",
    "errors": (
        "BudgetError CompressionError ConfigurationError ContextOverflowError DocumentError GenerationCancelled GenerationError"
        " GenerationTimeout IndexMismatchError LeanRAGError MissingDependencyError ModelLoadError QueueFullError RemoteError"
        " StorageError"
    ),
    "evidence.packing": "EvidencePacker",
    "generation": "BaseLanguageModel PieceStream",
    "ledger": "Limits Prices",
    "llama.embedder": "LlamaCppEmbedder",
    "llama.model": "LlamaCppModel",
    "llama.placement.layers": "GpuOptions",
    "models": "pull",
    "pipeline.opening": "open",
    "pipeline.rag": "Rag",
    "pipeline.turn": "AnswerStream",
    "prompting": "PromptTemplate",
    "protocols": "GenerateOptions",
    "remote.embedder": "RemoteEmbedder",
    "remote.model": "RemoteModel",
    "remote.reranker": "RemoteReranker",
    "retrieval.embedding": "SentenceTransformerEmbedder",
    "routing.calibration.stored": "Calibration",
    "routing.cascade": "Cascade",
    "routing.query_router": "QueryRouter",
    "types": "AddReport Answer CancelToken Chunk Citation Document Explanation Hit Message Usage",
}
"""Public names by module."""

_MOVED = {
    "compression": "CostGate SelfInformationCompressor compress_prompt",
    "compression.lingua": "LLMLinguaCompressor dequantize",
    "evidence": "CompressingPacker GreedyPacker LikelihoodScorer Protection SentenceScorer SentenceVectors TokenBudget",
    "llama": "IsolatedModel check_in_process load_model quantize",
    "remote": "Retry Timeouts",
    "retrieval": "BM25Retriever DenseRetriever FaissIndex FlatIndex GrowingIndex HybridRetriever Store",
    "routing": "Confidence DriftAudit Signals",
    "types": "Compression Generation Packing Scores Segment Step",
}
"""Names of the wings that were public here before; they still resolve."""


_MODULES = {
    name: f"{__name__}.{home}" for homes in (_HOMES, _MOVED) for home, names in homes.items() for name in names.split()
}

__all__ = sorted(name for names in _HOMES.values() for name in names.split())


if not TYPE_CHECKING:  # for a type checker, an unknown name is an error

    def __getattr__(name: str) -> object:
        if name in _WINGS:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_WINGS, "__version__"])
