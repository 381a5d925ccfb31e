"""Answers from your own documents with small local models: fewer tokens, seconds and cents, with the receipt.

The names here are what an application needs. The rest of the public names are in the wings: `leanrag.types`,
`leanrag.retrieval`, `leanrag.evidence`, `leanrag.compression`, `leanrag.routing`, `leanrag.llama`, `leanrag.remote` and so on.

`import leanrag` loads the standard library only; each name below is imported when it is first used.
"""

from __future__ import annotations

import dis
import functools
import importlib
import logging
from typing import TYPE_CHECKING

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # quiet, unless the application asks

if TYPE_CHECKING:  # the one list of the wings and the public names; `_homes` reads it
    from leanrag import caching as caching
    from leanrag import compression as compression
    from leanrag import documents as documents
    from leanrag import evidence as evidence
    from leanrag import llama as llama
    from leanrag import models as models
    from leanrag import pipeline as pipeline
    from leanrag import remote as remote
    from leanrag import retrieval as retrieval
    from leanrag import routing as routing
    from leanrag import types as types
    from leanrag.compression.extractive import ExtractiveCompressor as ExtractiveCompressor
    from leanrag.compression.messages import compress_messages as compress_messages
    from leanrag.compression.messages import compress_prompt as compress_prompt
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
    from leanrag.remote.model import RemoteModel as RemoteModel
    from leanrag.remote.waiting import Retry as Retry
    from leanrag.remote.waiting import Timeouts as Timeouts
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
else:
    _IN_WINGS = {
        "compression": "CostGate SelfInformationCompressor",
        "compression.lingua": "LLMLinguaCompressor dequantize",
        "evidence": "CompressingPacker GreedyPacker LikelihoodScorer Protection SentenceScorer SentenceVectors TokenBudget",
        "llama": "IsolatedModel check_in_process load_model quantize",
        "retrieval": "BM25Retriever DenseRetriever FaissIndex FlatIndex HybridRetriever Store",
        "routing": "Confidence DriftAudit Signals",
        "types": "Compression Generation Packing Scores Segment Step",
    }
    """Names of the wings that were public here before; they still resolve."""

    @functools.cache
    def _homes() -> dict[str, str]:
        """Return the module of each name, "leanrag" for a wing: those of the imports above, read from their compiled code."""
        homes, module = {}, ""
        for instruction in dis.get_instructions(__spec__.loader.get_code(__name__)):
            if instruction.opname == "IMPORT_NAME":
                module = instruction.argval
            elif instruction.opname == "IMPORT_FROM" and module.partition(".")[0] == __name__:
                homes[instruction.argval] = module
        return homes

    def __getattr__(name: str) -> object:
        homes = _homes()
        if name == "__all__":
            return sorted(public for public, home in homes.items() if home != __name__)
        in_wings = {old: f"{__name__}.{wing}" for wing, names in _IN_WINGS.items() for old in names.split()}
        home = homes.get(name) or in_wings.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if home == __name__:
            return importlib.import_module(f"{__name__}.{name}")
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted([*_homes(), "__version__"])
