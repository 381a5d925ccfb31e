"""Answers from your own documents with small local models: fewer tokens, seconds and cents, with the receipt.

`import leanrag` loads the standard library only; each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leanrag.compression.extractive import ExtractiveCompressor as ExtractiveCompressor
    from leanrag.compression.gate import CostGate as CostGate
    from leanrag.compression.lingua.compressor import LLMLinguaCompressor as LLMLinguaCompressor
    from leanrag.compression.lingua.compressor import dequantize as dequantize
    from leanrag.compression.messages import compress_messages as compress_messages
    from leanrag.compression.messages import compress_prompt as compress_prompt
    from leanrag.compression.self_information import SelfInformationCompressor as SelfInformationCompressor
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
    from leanrag.errors import RoutingError as RoutingError
    from leanrag.errors import StorageError as StorageError
    from leanrag.evidence.likelihood import LikelihoodScorer as LikelihoodScorer
    from leanrag.evidence.packing import CompressingPacker as CompressingPacker
    from leanrag.evidence.packing import EvidencePacker as EvidencePacker
    from leanrag.evidence.packing import GreedyPacker as GreedyPacker
    from leanrag.evidence.packing import TokenBudget as TokenBudget
    from leanrag.evidence.protection import Protection as Protection
    from leanrag.evidence.scoring import SentenceScorer as SentenceScorer
    from leanrag.evidence.scoring import SentenceVectors as SentenceVectors
    from leanrag.ledger import Limits as Limits
    from leanrag.ledger import Prices as Prices
    from leanrag.llama.embedder import LlamaCppEmbedder as LlamaCppEmbedder
    from leanrag.llama.files.quantize import quantize as quantize
    from leanrag.llama.model import LlamaCppModel as LlamaCppModel
    from leanrag.llama.process import IsolatedModel as IsolatedModel
    from leanrag.llama.process import check_in_process as check_in_process
    from leanrag.llama.process import load_model as load_model
    from leanrag.models.registry import pull as pull
    from leanrag.pipeline.opening import open as open  # noqa: A004 - leanrag.open, as gzip.open
    from leanrag.pipeline.rag import Rag as Rag
    from leanrag.pipeline.turn import AnswerStream as AnswerStream
    from leanrag.prompting import PromptTemplate as PromptTemplate
    from leanrag.remote import RemoteModel as RemoteModel
    from leanrag.retrieval.embedding import SentenceTransformerEmbedder as SentenceTransformerEmbedder
    from leanrag.retrieval.index import FaissIndex as FaissIndex
    from leanrag.retrieval.index import FlatIndex as FlatIndex
    from leanrag.retrieval.retrievers import BM25Retriever as BM25Retriever
    from leanrag.retrieval.retrievers import DenseRetriever as DenseRetriever
    from leanrag.retrieval.retrievers import HybridRetriever as HybridRetriever
    from leanrag.retrieval.store import Store as Store
    from leanrag.routing.calibration import Calibration as Calibration
    from leanrag.routing.calibration import DriftAudit as DriftAudit
    from leanrag.routing.cascade import Cascade as Cascade
    from leanrag.routing.query_router import QueryRouter as QueryRouter
    from leanrag.routing.signals import Confidence as Confidence
    from leanrag.routing.signals import Signals as Signals
    from leanrag.types import AddReport as AddReport
    from leanrag.types import Answer as Answer
    from leanrag.types import CancelToken as CancelToken
    from leanrag.types import Chunk as Chunk
    from leanrag.types import Citation as Citation
    from leanrag.types import Compression as Compression
    from leanrag.types import Document as Document
    from leanrag.types import Explanation as Explanation
    from leanrag.types import Generation as Generation
    from leanrag.types import Hit as Hit
    from leanrag.types import Message as Message
    from leanrag.types import Packing as Packing
    from leanrag.types import Scores as Scores
    from leanrag.types import Segment as Segment
    from leanrag.types import Step as Step
    from leanrag.types import Usage as Usage

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # quiet, unless the application asks

_HOMES = {
    "routing.calibration": ["Calibration", "DriftAudit"],
    "ledger": ["Limits", "Prices"],
    "routing.cascade": ["Cascade"],
    "documents.chunking": ["DocumentChunker"],
    "evidence.scoring": ["SentenceScorer", "SentenceVectors"],
    "compression.extractive": ["ExtractiveCompressor"],
    "compression.gate": ["CostGate"],
    "evidence.likelihood": ["LikelihoodScorer"],
    "compression.lingua.compressor": ["LLMLinguaCompressor", "dequantize"],
    "compression.messages": ["compress_messages", "compress_prompt"],
    "evidence.protection": ["Protection"],
    "compression.self_information": ["SelfInformationCompressor"],
    "routing.signals": ["Confidence", "Signals"],
    "retrieval.embedding": ["SentenceTransformerEmbedder"],
    "errors": [
        "BudgetError",
        "CompressionError",
        "ConfigurationError",
        "ContextOverflowError",
        "DocumentError",
        "GenerationCancelled",
        "GenerationError",
        "GenerationTimeout",
        "IndexMismatchError",
        "LeanRAGError",
        "MissingDependencyError",
        "ModelLoadError",
        "QueueFullError",
        "RemoteError",
        "RoutingError",
        "StorageError",
    ],
    "retrieval.index": ["FaissIndex", "FlatIndex"],
    "llama.embedder": ["LlamaCppEmbedder"],
    "llama.model": ["LlamaCppModel"],
    "llama.process": ["IsolatedModel", "check_in_process", "load_model"],
    "llama.files.quantize": ["quantize"],
    "models.registry": ["pull"],
    "evidence.packing": ["CompressingPacker", "EvidencePacker", "GreedyPacker", "TokenBudget"],
    "pipeline.opening": ["open"],
    "pipeline.rag": ["Rag"],
    "prompting": ["PromptTemplate"],
    "remote": ["RemoteModel"],
    "retrieval.retrievers": ["BM25Retriever", "DenseRetriever", "HybridRetriever"],
    "routing.query_router": ["QueryRouter"],
    "retrieval.store": ["Store"],
    "pipeline.turn": ["AnswerStream"],
    "types": [
        "AddReport",
        "Answer",
        "CancelToken",
        "Chunk",
        "Citation",
        "Compression",
        "Document",
        "Explanation",
        "Generation",
        "Hit",
        "Message",
        "Packing",
        "Scores",
        "Segment",
        "Step",
        "Usage",
    ],
}
_HOME = {name: f"leanrag.{module}" for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'leanrag' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
