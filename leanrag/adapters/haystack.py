"""leanrag in programs that are written with Haystack: a retriever, a packer and a chat generator.

Each is a component of Haystack's pipelines. `docs/migrating.md` shows them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from leanrag._optional import require

require("haystack", extra="haystack", why="to use leanrag in Haystack")

from haystack import Document, component
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.dataclasses.chat_message import ReasoningContent
from haystack.dataclasses.streaming_chunk import ComponentInfo, StreamingCallbackT, select_streaming_callback

from leanrag.adapters.frameworks import (
    chunk_metadata,
    find_model,
    generate_options,
    make_message,
    pack_texts,
    read_pieces,
)
from leanrag.errors import ConfigurationError
from leanrag.pipeline.rag import Rag
from leanrag.protocols import Closable, LanguageModel, Packer
from leanrag.types import Generation, Hit, Message, TextPiece, Where

__all__ = ["LeanRAGChatGenerator", "LeanRAGPacker", "LeanRAGRetriever"]


@component
class LeanRAGRetriever:
    """Finds chunks in a folder of leanrag.

    The metadata of a document says where it is from: `document_id`, `source`, `title`, `heading`, `location`, `start`, `end` and
    `score`; `content` is the text of the document from `start` to `end`.

    Args:
        rag: The folder.
        top_k: Most documents; None takes the `k` of `leanrag.open`.
        where: Conditions on the documents of the folder, as in `Rag.search`.

    Example:
        >>> LeanRAGRetriever(rag, top_k=4).run("Who signs off the releases?")["documents"]  # doctest: +SKIP
    """

    def __init__(self, rag: Rag, top_k: int | None = None, where: Where | None = None) -> None:
        self.rag, self.top_k, self.where = rag, top_k, where

    @component.output_types(documents=list[Document])
    def run(self, query: str, top_k: int | None = None, where: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `documents`, best first. `top_k` and `where` take the place of those of the component."""
        k, conditions = self.top_k if top_k is None else top_k, self.where if where is None else where
        return {"documents": [_to_document(hit) for hit in self.rag.search(query, k, where=conditions)]}


@component
class LeanRAGPacker:
    """Keeps the sentences of documents that are worth most for the question, up to a budget of tokens.

    It is used where a ranker would be. Documents come back best first. Their metadata gets `spans`: the pairs of start and end, in
    the text that was passed in, of what was kept. Documents without anything worth its tokens are left out.

    Args:
        budget: Most tokens of all documents together.
        count_tokens: Counts as the model that reads them: `model.count_tokens`.
        packer: Chooses; None for an `EvidencePacker`.
    """

    def __init__(self, budget: int, count_tokens: Callable[[str], int], packer: Packer | None = None) -> None:
        self.budget, self.count_tokens, self.packer = budget, count_tokens, packer

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document]) -> dict[str, Any]:
        """Return `documents` in at most `budget` tokens.

        Raises:
            BudgetError: Not one sentence fits.
        """
        texts = [document.content or "" for document in documents]
        packed = pack_texts(texts, query, budget=self.budget, count_tokens=self.count_tokens, packer=self.packer)
        kept = [
            dataclasses.replace(documents[i], content=text, meta=documents[i].meta | {"spans": spans})
            for i, text, spans in packed
        ]
        return {"documents": kept}


@component
class LeanRAGChatGenerator:
    """A local GGUF model, or any other `LanguageModel`, as a chat generator of Haystack.

    A reply has the model, the counts of tokens and why it stopped in its `meta`, and the thoughts of a reasoning model in
    `reasoning`. An error of the streaming callback stops the computation.

    Args:
        model: A name that `leanrag list` shows, a GGUF file, or any `LanguageModel`. A name or file is loaded by `warm_up`, which
            pipelines call, and can be written to YAML with the pipeline.
        generation_kwargs: Options of each generation: `max_tokens`, `temperature`, `seed`, `stop`, `timeout_seconds`, `schema` and
            others of `leanrag.llama.LlamaOptions`.
        streaming_callback: Is called with each piece of a reply.

    Example:
        >>> LeanRAGChatGenerator("qwen2.5-coder-0.5b").run([ChatMessage.from_user("What is BM25?")])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | LanguageModel,
        generation_kwargs: dict[str, Any] | None = None,
        streaming_callback: StreamingCallbackT | None = None,
    ) -> None:
        self.model = os.fspath(model) if isinstance(model, os.PathLike) else model
        self.generation_kwargs, self.streaming_callback = generation_kwargs, streaming_callback
        self._loaded: LanguageModel | None = None

    def warm_up(self) -> None:
        """Load the model, if that is not done yet."""
        if self._loaded is None:
            self._loaded = find_model(self.model)

    def close(self) -> None:
        """Close the model if `warm_up` loaded it; the next reply loads it again."""
        if isinstance(self.model, str) and isinstance(self._loaded, Closable):
            self._loaded.close()
        self._loaded = None

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain text, counted by the tokenizer of the model."""
        return int(self._get_model().count_tokens(text))

    @component.output_types(replies=list[ChatMessage])
    def run(
        self,
        messages: list[ChatMessage] | str,
        streaming_callback: StreamingCallbackT | None = None,
        generation_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return `replies`: one message.

        Args:
            messages: The conversation, or a question.
            streaming_callback: Takes the place of that of the component.
            generation_kwargs: Add to those of the component, and take their place.

        Raises:
            ConfigurationError: A message has something else than text, or an option is unknown.
        """
        callback = select_streaming_callback(self.streaming_callback, streaming_callback, requires_async=False)
        messages = [ChatMessage.from_user(messages)] if isinstance(messages, str) else messages
        options = generate_options({"max_tokens": 256} | (self.generation_kwargs or {}), generation_kwargs or {})
        stream = self._get_model().stream(_to_messages(messages), options)
        if callback is not None:
            info = ComponentInfo.from_component(self)
            for chunk in _to_chunks(read_pieces(stream), info):
                callback(chunk)
            callback(
                StreamingChunk(
                    "", meta=_meta_of(stream.result), component_info=info, finish_reason=_reason(stream.result)
                )
            )
        generation = stream.result
        reply = ChatMessage.from_assistant(
            generation.text, meta=_meta_of(generation), reasoning=generation.thoughts or None
        )
        return {"replies": [reply]}

    def _get_model(self) -> LanguageModel:
        self.warm_up()
        assert self._loaded is not None
        return self._loaded


def _to_document(hit: Hit) -> Document:
    return Document(id=hit.chunk.id, content=hit.chunk.text, meta=chunk_metadata(hit), score=float(hit.score))


def _to_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    for message in messages:
        others = {
            "images": message.images,
            "files": message.files,
            "calls of tools": message.tool_calls,
            "results of tools": message.tool_call_results,
        }
        if found := [name for name, parts in others.items() if parts]:
            raise ConfigurationError(
                f"a local model reads text only, but a message of the {message.role.value} has {found[0]}. Leave them out"
            )
    return [make_message(message.role.value, "\n".join(message.texts)) for message in messages]


def _to_chunks(pieces: Iterator[TextPiece], info: ComponentInfo) -> Iterator[StreamingChunk]:
    """Yield the pieces as Haystack streams them: thoughts and text are blocks with an index each."""
    index, is_thought = -1, None
    for piece in pieces:
        is_start = piece.is_thought is not is_thought
        index, is_thought = index + is_start, piece.is_thought
        thought = ReasoningContent(piece.text) if piece.is_thought else None
        text = "" if piece.is_thought else piece.text
        yield StreamingChunk(text, index=index, start=is_start, reasoning=thought, component_info=info)


def _meta_of(generation: Generation) -> dict[str, Any]:
    usage = generation.usage
    counts = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    return {"model": generation.model, "index": 0, "finish_reason": _reason(generation), "usage": counts}


def _reason(generation: Generation) -> Literal["stop", "length"]:
    """Return why a generation ended; Haystack has no word for a text that repeats itself."""
    return "length" if generation.finish_reason == "length" else "stop"
