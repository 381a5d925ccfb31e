"""What the adapters for LangChain, LlamaIndex and Haystack have in common: models by name, options of a call, packing of texts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import Any

import pydantic

from leanrag.errors import ConfigurationError
from leanrag.evidence.packing import EvidencePacker
from leanrag.evidence.scoring import SentenceScorer
from leanrag.generation import stream_pieces
from leanrag.llama.options import LlamaOptions
from leanrag.pipeline.loading import load_embedder, load_language_model
from leanrag.pipeline.twins import iterate_in_thread, wait_in_thread
from leanrag.protocols import (
    Embedder,
    GenerateOptions,
    GenerationStream,
    LanguageModel,
    Packer,
    TokenCounter,
)
from leanrag.types import Chunk, Generation, Hit, Message, Prompt, TextPiece, locate

__all__ = [
    "FrameworkModel",
    "chunk_metadata",
    "find_embedder",
    "find_model",
    "generate_options",
    "make_message",
    "pack_texts",
    "read_pieces",
    "read_pieces_async",
    "read_result_async",
]

_OPTIONS = frozenset(field.name for field in dataclasses.fields(LlamaOptions))
_LLAMA_OPTIONS = _OPTIONS - {field.name for field in dataclasses.fields(GenerateOptions)}


def find_model(model: str | os.PathLike[str] | LanguageModel) -> LanguageModel:
    """Return the model; a name or a file is loaded."""
    return load_language_model(model) if isinstance(model, (str, os.PathLike)) else model


def find_embedder(embedder: str | os.PathLike[str] | Embedder) -> Embedder:
    """Return the embedder; a name, a file or a folder is loaded."""
    return load_embedder(embedder) if isinstance(embedder, (str, os.PathLike)) else embedder


def generate_options(settings: Mapping[str, Any], call: Mapping[str, Any]) -> GenerateOptions:
    """Return the options of a generation: those of a call, then those of the adapter.

    Raises:
        ConfigurationError: The call has an option that leanrag does not know, such as tools, or a value that cannot work.
    """
    if unknown := sorted(set(call) - _OPTIONS):
        raise ConfigurationError(
            f"a local model cannot use the option {unknown[0]!r}; allowed are: {', '.join(sorted(_OPTIONS))}. Leave it out"
        )
    values = {name: value for name, value in {**settings, **call}.items() if value is not None}
    return LlamaOptions(**values) if values.keys() & _LLAMA_OPTIONS else GenerateOptions(**values)


class FrameworkModel(pydantic.BaseModel):
    """What the models for LangChain and LlamaIndex share; the models of both frameworks are pydantic models."""

    model: Any
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    stop: list[str] | None = None
    timeout: float | None = None

    def __init__(self, *, model: str | os.PathLike[str] | LanguageModel, **settings: Any) -> None:
        super().__init__(model=find_model(model), **settings)

    def generation_settings(self) -> dict[str, Any]:
        """Return the settings of each generation, by their names in `GenerateOptions`."""
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stop": self.stop,
            "timeout_seconds": self.timeout,
        }

    def start_stream(self, prompt: Prompt, call: Mapping[str, Any]) -> GenerationStream:
        """Begin a generation; `call` has options of this call alone."""
        stream: GenerationStream = self.model.stream(prompt, generate_options(self.generation_settings(), call))
        return stream


def make_message(role: str, content: str) -> Message:
    """Return a message; the roles of the frameworks have other names.

    Raises:
        ConfigurationError: A local model cannot read messages of this role, such as results of tools.
    """
    if role in ("system", "developer"):
        return Message("system", content)
    if role in ("user", "human"):
        return Message("user", content)
    if role in ("assistant", "ai", "AIMessageChunk"):
        return Message("assistant", content)
    raise ConfigurationError(
        f"a local model cannot read a message of the role {role!r}; allowed are system, user and assistant. "
        "Put its text into a message of the user"
    )


def chunk_metadata(hit: Hit) -> dict[str, Any]:
    """Return what says where the text of a hit is from: `page_content == document.text[start:end]`."""
    chunk = hit.chunk
    metadata = {
        "document_id": chunk.document_id,
        "source": chunk.source or chunk.document_id,
        "title": chunk.title,
        "heading": chunk.heading,
        "location": locate(chunk.marks, chunk.start, chunk.end),
    }
    named = {name: value for name, value in metadata.items() if value}
    return named | {"start": chunk.start, "end": chunk.end, "score": float(hit.score)}


def pack_texts(
    texts: Sequence[str],
    question: str,
    *,
    budget: int,
    count_tokens: TokenCounter,
    packer: Packer | None = None,
) -> list[tuple[int, str, list[tuple[int, int]]]]:
    """Return what is kept of each text, best first: the index of the text, its parts as one text, and their starts and ends.

    Args:
        texts: Best first.
        question: What the reader will be asked.
        budget: Most tokens of all parts together.
        count_tokens: Counts as the model that reads them.
        packer: Chooses; None for an `EvidencePacker`.

    Raises:
        BudgetError: Not one sentence fits.
    """

    def count_source(_number: int, _title: str, text: str) -> int:
        return count_tokens(text)

    packer = packer or EvidencePacker(SentenceScorer(), ordering="relevance")
    hits = [Hit(Chunk(str(i), 0, len(text), text), 1 / (1 + i)) for i, text in enumerate(texts) if text.strip()]
    packing = packer.pack(hits, budget, count_source, question=question)
    return [
        (int(item.hit.chunk.document_id), item.text, [(part.source_start, part.source_end) for part in item.segments])
        for item in packing.items
    ]


def read_pieces(stream: GenerationStream) -> Generator[TextPiece, None, None]:
    """Yield the text and the thoughts of a generation; leaving the loop stops it."""
    try:
        yield from stream_pieces(stream)
    finally:
        stream.close()


def read_pieces_async(stream: GenerationStream) -> AsyncGenerator[TextPiece, None]:
    """As `read_pieces`, for asyncio: another thread waits for the model."""
    return iterate_in_thread(stream_pieces(stream), stream.close)


async def read_result_async(stream: GenerationStream) -> Generation:
    """Return the result of a generation, for asyncio: another thread waits; cancelling the task stops the model."""
    return await wait_in_thread(lambda: stream.result, stream.close)
