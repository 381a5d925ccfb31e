"""leanrag in programs that are written with LlamaIndex: a retriever, a node postprocessor, a model and an embedding.

Each is what LlamaIndex expects, so it works in query engines, chat engines, callbacks and tracing. `docs/migrating.md` shows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

from leanrag._optional import require

require("llama_index.core", extra="llama-index", why="to use leanrag in LlamaIndex")

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from leanrag.adapters.frameworks import (
    FrameworkModel,
    chunk_metadata,
    find_embedder,
    make_message,
    pack_texts,
    read_pieces,
    read_pieces_async,
    read_result_async,
)
from leanrag.errors import ConfigurationError
from leanrag.pipeline.rag import Rag
from leanrag.pipeline.twins import start_in_thread
from leanrag.protocols import Embedder, GenerationStream
from leanrag.types import Generation, Message, Prompt, TextPiece, Where

__all__ = ["LeanRAGEmbedding", "LeanRAGLLM", "LeanRAGPostprocessor", "LeanRAGRetriever"]

_NOT_READ = ["document_id", "start", "end", "score"]
"""Metadata that is for programs, not for models."""


class LeanRAGRetriever(BaseRetriever):
    """Finds chunks in a folder of leanrag.

    The metadata of a node says where it is from: `document_id`, `source`, `title`, `heading`, `location`, `start`, `end` and
    `score`; the text of the node is the text of the document from `start` to `end`.

    Args:
        rag: The folder.
        k: Most nodes; None takes the `k` of `leanrag.open`.
        where: Conditions on the documents of the folder, as in `Rag.search`.
        options: Of LlamaIndex's `BaseRetriever`.

    Example:
        >>> LeanRAGRetriever(rag, k=4).retrieve("Who signs off the releases?")  # doctest: +SKIP
    """

    def __init__(self, rag: Rag, *, k: int | None = None, where: Where | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._rag, self._k, self._filter = rag, k, where

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._rag.search(query_bundle.query_str, self._k, where=self._filter)
        return [
            NodeWithScore(
                node=TextNode(
                    id_=hit.chunk.id,
                    text=hit.chunk.text,
                    metadata=chunk_metadata(hit),
                    start_char_idx=hit.chunk.start,
                    end_char_idx=hit.chunk.end,
                    excluded_llm_metadata_keys=_NOT_READ,
                    excluded_embed_metadata_keys=_NOT_READ,
                ),
                score=float(hit.score),
            )
            for hit in hits
        ]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


class LeanRAGPostprocessor(BaseNodePostprocessor):
    """Keeps the sentences of nodes that are worth most for the question, up to a budget of tokens.

    Nodes come back best first. Their metadata gets `spans`: the pairs of start and end, in the text of the node that was passed in,
    of what was kept. Nodes without anything worth its tokens are left out. The budget counts the text of the nodes; a prompt of
    LlamaIndex adds their metadata.

    Attributes:
        budget: Most tokens of all nodes together.
        count_tokens: Counts as the model that reads them: `model.count_tokens`.
        packer: A `leanrag.protocols.Packer`; None for an `EvidencePacker`.
    """

    budget: int
    count_tokens: Callable[[str], int]
    packer: Any = None

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class, as LlamaIndex writes it into files."""
        return "LeanRAGPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        texts = [node.node.get_content(MetadataMode.NONE) for node in nodes]
        question, packer = (query_bundle.query_str if query_bundle else ""), self.packer
        packed = pack_texts(texts, question, budget=self.budget, count_tokens=self.count_tokens, packer=packer)
        kept = []
        for i, text, spans in packed:
            node = nodes[i].node.model_copy(deep=True)
            node.set_content(text)
            node.metadata["spans"] = spans
            node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, "spans"]
            kept.append(NodeWithScore(node=node, score=nodes[i].score))
        return kept


class LeanRAGLLM(FrameworkModel, CustomLLM):
    """A local GGUF model, or any other `LanguageModel`, as a model of LlamaIndex.

    Messages are rendered with the chat template of the model. Responses have the counts of tokens in `additional_kwargs`; `raw` has
    the model, the counts, why it stopped, and the thoughts of a reasoning model.

    Attributes:
        model: A name that `leanrag list` shows, a GGUF file, or any `LanguageModel`. A name or file is loaded at once.
        max_tokens: Most tokens of an answer.
        temperature: 0 for the same answer each time.
        seed: Repeats an answer if the temperature is above 0.
        stop: Strings that end the answer.
        timeout: Time limit in seconds.

    Example:
        >>> LeanRAGLLM(model="qwen2.5-coder-0.5b", max_tokens=64).complete("What is BM25?").text  # doctest: +SKIP
    """

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class, as LlamaIndex writes it into files."""
        return "LeanRAGLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex needs to know of the model: its window, and whether it reads messages."""
        return LLMMetadata(
            context_window=self.model.n_ctx,
            num_output=self.max_tokens,
            is_chat_model=self.model.is_chat,
            model_name=self.model.name,
        )

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain text, counted by the tokenizer of the model."""
        return int(self.model.count_tokens(text))

    async def _generate(self, prompt: Prompt, call: dict[str, Any]) -> CompletionResponse:
        return _whole(await read_result_async(await start_in_thread(lambda: self.start_stream(prompt, call))))

    def _to_prompt(self, prompt: str, formatted: bool) -> Prompt:
        """Return a prompt to complete; a chat model reads it as a message, unless it has its template already."""
        return [Message("user", prompt)] if self.model.is_chat and not formatted else prompt

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Return the answer to messages."""
        return _to_chat(_whole(self.start_stream(_to_messages(messages), kwargs).result))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Return the answer to messages, piece by piece."""
        return (_to_chat(response) for response in _stream(self.start_stream(_to_messages(messages), kwargs)))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Return the completion of a prompt."""
        return _whole(self.start_stream(self._to_prompt(prompt, formatted), kwargs).result)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Return the completion of a prompt, piece by piece."""
        return _stream(self.start_stream(self._to_prompt(prompt, formatted), kwargs))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Return the answer to messages; cancelling the task stops the model."""
        return _to_chat(await self._generate(_to_messages(messages), kwargs))

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Return the answer to messages, piece by piece; leaving the loop stops the model."""
        return _stream_chat_async(await start_in_thread(lambda: self.start_stream(_to_messages(messages), kwargs)))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Return the completion of a prompt; cancelling the task stops the model."""
        return await self._generate(self._to_prompt(prompt, formatted), kwargs)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Return the completion of a prompt, piece by piece; leaving the loop stops the model."""
        return _stream_async(
            await start_in_thread(lambda: self.start_stream(self._to_prompt(prompt, formatted), kwargs))
        )


class LeanRAGEmbedding(BaseEmbedding):
    """An embedder of leanrag as an embedding of LlamaIndex; vectors have norm 1.

    Args:
        embedder: A name that `leanrag list` shows, a GGUF file, a folder of a sentence-transformers model, or any `Embedder`.
        options: Of LlamaIndex's `BaseEmbedding`.
    """

    _embedder: Embedder = PrivateAttr()

    def __init__(self, embedder: str | os.PathLike[str] | Embedder = "all-minilm-l6-v2", **options: Any) -> None:
        found = find_embedder(embedder)
        super().__init__(**{"model_name": found.id, **options})
        self._embedder = found

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class, as LlamaIndex writes it into files."""
        return "LeanRAGEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._embedder.embed_queries([query])[0].tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._embedder.embed_documents(texts).tolist() if texts else []
        return vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


def _to_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    for message in messages:
        for block in message.blocks:
            if block.block_type != "text":
                raise ConfigurationError(
                    f"a local model reads text only, but a message has a block of the type {block.block_type!r}. Leave it out"
                )
    return [make_message(message.role.value, message.content or "") for message in messages]


def _whole(generation: Generation) -> CompletionResponse:
    usage = {
        "prompt_tokens": generation.usage.prompt_tokens,
        "completion_tokens": generation.usage.completion_tokens,
        "total_tokens": generation.usage.total_tokens,
    }
    raw = {
        "model": generation.model,
        "usage": usage,
        "finish_reason": generation.finish_reason,
        "thoughts": generation.thoughts,
    }
    return CompletionResponse(text=generation.text, raw=raw, additional_kwargs=dict(usage))


def _stream(stream: GenerationStream) -> Iterator[CompletionResponse]:
    """Yield the text so far with each piece; the last response has the counts."""
    text = ""
    for piece in read_pieces(stream):
        text += "" if piece.is_thought else piece.text
        yield _part(text, piece)
    yield _last(stream.result)


async def _stream_async(stream: GenerationStream) -> AsyncGenerator[CompletionResponse, None]:
    text = ""
    async with contextlib.aclosing(read_pieces_async(stream)) as pieces:
        async for piece in pieces:
            text += "" if piece.is_thought else piece.text
            yield _part(text, piece)
    yield _last(stream.result)


async def _stream_chat_async(stream: GenerationStream) -> AsyncGenerator[ChatResponse, None]:
    async with contextlib.aclosing(_stream_async(stream)) as responses:
        async for response in responses:
            yield _to_chat(response)


def _part(text: str, piece: TextPiece) -> CompletionResponse:
    if piece.is_thought:
        return CompletionResponse(text=text, delta="", additional_kwargs={"thinking_delta": piece.text})
    return CompletionResponse(text=text, delta=piece.text)


def _last(generation: Generation) -> CompletionResponse:
    response = _whole(generation)
    response.delta = ""
    return response


def _to_chat(response: CompletionResponse) -> ChatResponse:
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, content=response.text),
        delta=response.delta,
        raw=response.raw,
        additional_kwargs=response.additional_kwargs,
    )
