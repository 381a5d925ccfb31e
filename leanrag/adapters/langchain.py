"""leanrag in programs that are written with LangChain: a retriever, a compressor, a chat model and embeddings.

Each is what LangChain expects, so it works in chains, agents without tools, callbacks and tracing. `docs/migrating.md` shows them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from leanrag._optional import require

require("langchain_core", extra="langchain", why="to use leanrag in LangChain")

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
    CallbackManagerForRetrieverRun,
    Callbacks,
)
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ChatMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, ConfigDict

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
from leanrag.llama.options import LlamaBase
from leanrag.pipeline.rag import Rag
from leanrag.pipeline.twins import start_in_thread
from leanrag.protocols import Embedder, GenerationStream
from leanrag.types import Generation, Message, TextPiece

__all__ = ["ChatLeanRAG", "LeanRAGCompressor", "LeanRAGEmbeddings", "LeanRAGRetriever"]


class LeanRAGRetriever(BaseRetriever):
    """Finds chunks in a folder of leanrag.

    The metadata of a document says where it is from: `document_id`, `source`, `title`, `heading`, `location`, `start`, `end` and
    `score`; `page_content` is the text of the document from `start` to `end`.

    Attributes:
        rag: The folder.
        k: Most documents; None takes the `k` of `leanrag.open`.
        where: Conditions on the documents of the folder, as in `Rag.search`.

    Example:
        >>> LeanRAGRetriever(rag=rag, k=4).invoke("Who signs off the releases?")  # doctest: +SKIP
    """

    rag: Rag
    k: int | None = None
    where: dict[str, Any] | None = None

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain passes it
        k: int | None = None,
        where: dict[str, Any] | None = None,
    ) -> list[Document]:
        hits = self.rag.search(query, self.k if k is None else k, where=self.where if where is None else where)
        return [Document(id=hit.chunk.id, page_content=hit.chunk.text, metadata=chunk_metadata(hit)) for hit in hits]


class LeanRAGCompressor(BaseDocumentCompressor):
    """Keeps the sentences of documents that are worth most for the question, up to a budget of tokens.

    Documents come back best first. Their metadata gets `spans`: the pairs of start and end, in the text that was passed in, of what
    was kept. Documents without anything worth its tokens are left out.

    Attributes:
        budget: Most tokens of all documents together.
        count_tokens: Counts as the model that reads them: `chat.get_num_tokens`, or `model.count_tokens`.
        packer: A `leanrag.protocols.Packer`; None for an `EvidencePacker`.
    """

    budget: int
    count_tokens: Callable[[str], int]
    packer: Any = None

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002
    ) -> list[Document]:
        """Return the documents in at most `budget` tokens.

        Raises:
            BudgetError: Not one sentence fits.
        """
        texts = [document.page_content for document in documents]
        packed = pack_texts(texts, query, budget=self.budget, count_tokens=self.count_tokens, packer=self.packer)
        return [
            Document(id=documents[i].id, page_content=text, metadata=documents[i].metadata | {"spans": spans})
            for i, text, spans in packed
        ]


class ChatLeanRAG(FrameworkModel, BaseChatModel):
    """A local GGUF model, or any other `LanguageModel`, as a chat model of LangChain.

    Answers have `usage_metadata`, and in `response_metadata` the model and why it stopped; thoughts of a reasoning model are in
    `additional_kwargs["reasoning_content"]`. Leaving a stream, or cancelling its task, stops the computation.

    Attributes:
        model: A name that `leanrag list` shows, a GGUF file, or any `LanguageModel`. A name or file is loaded at once.
        max_tokens: Most tokens of an answer.
        temperature: 0 for the same answer each time.
        seed: Repeats an answer if the temperature is above 0.
        stop: Strings that end the answer.
        timeout: Time limit in seconds.

    Example:
        >>> chat = ChatLeanRAG(model="qwen2.5-coder-0.5b", max_tokens=64)  # doctest: +SKIP
        >>> chat.invoke("What is BM25?").content  # doctest: +SKIP
    """

    @property
    def _llm_type(self) -> str:
        return "leanrag"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        settings = self.generation_settings()
        return {"model_name": self.model.name, **{name: settings[name] for name in sorted(settings)}}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "leanrag"
        params.setdefault("ls_model_name", self.model.name)
        return params

    def get_num_tokens(self, text: str) -> int:
        """Return the tokens of plain text, counted by the tokenizer of the model."""
        return int(self.model.count_tokens(text))

    def get_num_tokens_from_messages(self, messages: Sequence[BaseMessage], tools: Any = None) -> int:
        """Return the tokens of the rendered prompt."""
        if tools:
            raise ConfigurationError("a local model cannot use tools. Leave `tools` out")
        return int(self.model.count(_to_messages(messages)))

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        **kwargs: Any,  # noqa: ARG002 - other chat models use them
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a runnable whose answers satisfy a schema, because the model can write nothing else.

        Args:
            schema: A pydantic class, a `TypedDict`, or a JSON Schema.
            include_raw: Return a dictionary of `raw`, `parsed` and `parsing_error` instead of the parsed answer.
            kwargs: `method` and `strict` of other chat models; a grammar enforces the schema whatever they are.

        Raises:
            ConfigurationError: The model is not a GGUF model that runs here.
        """
        if not isinstance(self.model, LlamaBase):
            raise ConfigurationError(
                f"only a GGUF model that runs on this machine can keep to a schema, and {self.model.name!r} is not such a model. "
                "Load one with `ChatLeanRAG(model=NAME)`, or ask for JSON in the prompt and parse it"
            )
        parser: Any = JsonOutputParser()
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            parser = PydanticOutputParser(pydantic_object=schema)
        bound = self.bind(schema=convert_to_json_schema(schema))
        if not include_raw:
            answers: Runnable[LanguageModelInput, dict[str, Any] | BaseModel] = bound | parser
            return answers
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        ).with_fallbacks([RunnablePassthrough.assign(parsed=lambda _: None)], exception_key="parsing_error")
        return RunnableMap(raw=bound) | parsed

    def _start(self, messages: Sequence[BaseMessage], stop: list[str] | None, call: dict[str, Any]) -> GenerationStream:
        call = {"timeout_seconds" if name == "timeout" else name: value for name, value in call.items()}
        return self.start_stream(_to_messages(messages), call | {"stop": stop} if stop else call)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain passes it
        **kwargs: Any,
    ) -> ChatResult:
        return _to_result(self._start(messages, stop, kwargs).result)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain passes it
        **kwargs: Any,
    ) -> ChatResult:
        stream = await start_in_thread(lambda: self._start(messages, stop, kwargs))
        return _to_result(await read_result_async(stream))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        stream = self._start(messages, stop, kwargs)
        with contextlib.closing(read_pieces(stream)) as pieces:
            for piece in pieces:
                chunk = _to_chunk(piece)
                if run_manager:
                    run_manager.on_llm_new_token(piece.text, chunk=chunk)
                yield chunk
        yield _last_chunk(stream.result)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        stream = await start_in_thread(lambda: self._start(messages, stop, kwargs))
        async with contextlib.aclosing(read_pieces_async(stream)) as pieces:
            async for piece in pieces:
                chunk = _to_chunk(piece)
                if run_manager:
                    await run_manager.on_llm_new_token(piece.text, chunk=chunk)
                yield chunk
        yield _last_chunk(stream.result)


class LeanRAGEmbeddings(Embeddings):
    """An embedder of leanrag as embeddings of LangChain; vectors have norm 1.

    Args:
        embedder: A name that `leanrag list` shows, a GGUF file, a folder of a sentence-transformers model, or any `Embedder`.
    """

    def __init__(self, embedder: str | os.PathLike[str] | Embedder = "all-minilm-l6-v2") -> None:
        self.embedder = find_embedder(embedder)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text."""
        return [] if not texts else self.embedder.embed_documents(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        vector: list[float] = self.embedder.embed_queries([text])[0].tolist()
        return vector


def _to_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    return [make_message(_role(message), _text(message)) for message in messages]


def _role(message: BaseMessage) -> str:
    return message.role if isinstance(message, ChatMessage) else message.type


def _text(message: BaseMessage) -> str:
    """Return the text of a message whose content is a string, or a list of blocks of text."""
    if isinstance(message.content, str):
        return message.content
    texts = []
    for block in message.content:
        kind = "text" if isinstance(block, str) else block.get("type")
        if kind != "text":
            raise ConfigurationError(
                f"a local model reads text only, but a message has a block of the type {kind!r}. Leave the block out"
            )
        texts.append(block if isinstance(block, str) else str(block["text"]))
    return "\n".join(texts)


def _to_chunk(piece: TextPiece) -> ChatGenerationChunk:
    if piece.is_thought:
        message = AIMessageChunk(content="", additional_kwargs={"reasoning_content": piece.text})
    else:
        message = AIMessageChunk(content=piece.text)
    return ChatGenerationChunk(message=message)


def _last_chunk(generation: Generation) -> ChatGenerationChunk:
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content="",
            usage_metadata=_to_usage(generation),
            response_metadata=_to_response(generation),
            chunk_position="last",
        )
    )


def _to_result(generation: Generation) -> ChatResult:
    thoughts = {"reasoning_content": generation.thoughts} if generation.thoughts else {}
    message = AIMessage(
        content=generation.text,
        additional_kwargs=thoughts,
        usage_metadata=_to_usage(generation),
        response_metadata=_to_response(generation),
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def _to_usage(generation: Generation) -> UsageMetadata:
    usage = generation.usage
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        input_token_details={"cache_read": usage.cached_tokens},
        output_token_details={"reasoning": generation.thought_tokens},
    )


def _to_response(generation: Generation) -> dict[str, Any]:
    return {
        "model_name": generation.model,
        "model_provider": "leanrag",
        "finish_reason": generation.finish_reason,
        "seed": generation.seed,
    }
