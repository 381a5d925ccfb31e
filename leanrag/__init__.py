"""Answers from your own documents with small local models: fewer tokens, seconds and cents, with the receipt.

`import leanrag` loads the standard library only; each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leanrag.calibration import Calibration as Calibration
    from leanrag.calibration import DriftAudit as DriftAudit
    from leanrag.cascade import Cascade as Cascade
    from leanrag.cascade import Limits as Limits
    from leanrag.chunking import DocumentChunker as DocumentChunker
    from leanrag.compression.evidence import SentenceScorer as SentenceScorer
    from leanrag.compression.evidence import SentenceVectors as SentenceVectors
    from leanrag.compression.extractive import ExtractiveCompressor as ExtractiveCompressor
    from leanrag.compression.gate import CostGate as CostGate
    from leanrag.compression.likelihood import LikelihoodScorer as LikelihoodScorer
    from leanrag.compression.lingua import LLMLinguaCompressor as LLMLinguaCompressor
    from leanrag.compression.lingua import dequantize as dequantize
    from leanrag.compression.messages import compress_messages as compress_messages
    from leanrag.compression.messages import compress_prompt as compress_prompt
    from leanrag.compression.protection import Protection as Protection
    from leanrag.compression.self_information import SelfInformationCompressor as SelfInformationCompressor
    from leanrag.confidence import Confidence as Confidence
    from leanrag.confidence import Signals as Signals
    from leanrag.embedding import SentenceTransformerEmbedder as SentenceTransformerEmbedder
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
    from leanrag.index import FaissIndex as FaissIndex
    from leanrag.index import FlatIndex as FlatIndex
    from leanrag.llama.embedder import LlamaCppEmbedder as LlamaCppEmbedder
    from leanrag.llama.model import LlamaCppModel as LlamaCppModel
    from leanrag.llama.process import IsolatedModel as IsolatedModel
    from leanrag.llama.process import check_in_process as check_in_process
    from leanrag.llama.process import load_model as load_model
    from leanrag.llama.quantize import quantize as quantize
    from leanrag.models import pull as pull
    from leanrag.packing import CompressingPacker as CompressingPacker
    from leanrag.packing import EvidencePacker as EvidencePacker
    from leanrag.packing import GreedyPacker as GreedyPacker
    from leanrag.packing import TokenBudget as TokenBudget
    from leanrag.pipeline import Rag as Rag
    from leanrag.pipeline import open as open  # noqa: A004 - leanrag.open, as gzip.open
    from leanrag.prompting import PromptTemplate as PromptTemplate
    from leanrag.remote import Prices as Prices
    from leanrag.remote import RemoteModel as RemoteModel
    from leanrag.retrieval import BM25Retriever as BM25Retriever
    from leanrag.retrieval import DenseRetriever as DenseRetriever
    from leanrag.retrieval import HybridRetriever as HybridRetriever
    from leanrag.routing import QueryRouter as QueryRouter
    from leanrag.store import Store as Store
    from leanrag.turn import AnswerStream as AnswerStream
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
    "calibration": ["Calibration", "DriftAudit"],
    "cascade": ["Cascade", "Limits"],
    "chunking": ["DocumentChunker"],
    "compression.evidence": ["SentenceScorer", "SentenceVectors"],
    "compression.extractive": ["ExtractiveCompressor"],
    "compression.gate": ["CostGate"],
    "compression.likelihood": ["LikelihoodScorer"],
    "compression.lingua": ["LLMLinguaCompressor", "dequantize"],
    "compression.messages": ["compress_messages", "compress_prompt"],
    "compression.protection": ["Protection"],
    "compression.self_information": ["SelfInformationCompressor"],
    "confidence": ["Confidence", "Signals"],
    "embedding": ["SentenceTransformerEmbedder"],
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
    "index": ["FaissIndex", "FlatIndex"],
    "llama.embedder": ["LlamaCppEmbedder"],
    "llama.model": ["LlamaCppModel"],
    "llama.process": ["IsolatedModel", "check_in_process", "load_model"],
    "llama.quantize": ["quantize"],
    "models": ["pull"],
    "packing": ["CompressingPacker", "EvidencePacker", "GreedyPacker", "TokenBudget"],
    "pipeline": ["Rag", "open"],
    "prompting": ["PromptTemplate"],
    "remote": ["Prices", "RemoteModel"],
    "retrieval": ["BM25Retriever", "DenseRetriever", "HybridRetriever"],
    "routing": ["QueryRouter"],
    "store": ["Store"],
    "turn": ["AnswerStream"],
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
