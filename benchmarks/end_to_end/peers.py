"""LangChain and LlamaIndex, put together as their documentation shows, with the same model and the same embedder; if installed."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.end_to_end.observing import Reply, Way
from benchmarks.end_to_end.usual import MAX_TOKENS
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.pipeline.copies import find_embedder
from leanrag.types import Document

__all__ = ["PEERS", "open_peers"]

_Embed = Callable[[Sequence[str]], list[list[float]]]

PEERS = ("LangChain", "LlamaIndex")
_EMBEDDER = "all-minilm-l6-v2"
_LANGCHAIN_PASSAGES = 4  # the default of `similarity_search`
_PROMPT = (
    "You answer questions. Answer with the context below, in three sentences at most. If the context does not answer the question, "
    "say that you don't know.\n\nQuestion: {question}\n\nContext: {context}\n\nAnswer:"
)


def open_peers(llama: Any, documents: Iterable[Document]) -> list[Way]:
    """Return the peers that are installed, each with an index of the documents.

    Args:
        llama: The model, a `llama_cpp.Llama`.
        documents: The documents.
    """
    documents = list({document.id: document for document in documents}.values())
    embedder = LlamaCppEmbedder(find_embedder(_EMBEDDER))

    def embed(texts: Sequence[str]) -> list[list[float]]:
        return embedder.embed_documents([_cut(embedder, text) for text in texts]).tolist()  # type: ignore[no-any-return]

    ways: list[Way] = []
    if importlib.util.find_spec("langchain_core"):
        ways.append(_PeerWay("LangChain", llama, _langchain(embed, documents)))
    if importlib.util.find_spec("llama_index"):
        ways.append(_PeerWay("LlamaIndex", llama, _llama_index(embed, documents)))
    return ways


def _cut(embedder: LlamaCppEmbedder, text: str) -> str:
    """Return the beginning of a text that the embedder can read: sentence-transformers drops the rest without a word."""
    while embedder.count_tokens(text) > embedder.max_tokens:
        text = text[: len(text) * 9 // 10]
    return text


class _PeerWay:
    """Asks a framework. It calls `complete` with its prompt, through which the tokens and times are seen."""

    def __init__(self, name: str, llama: Any, make: Callable[[Callable[[str], str]], Callable[[str], str]]) -> None:
        self.name = name
        self._llama = llama
        self._prompts: list[str] = []
        self._tokens = 0
        self._first = 0.0
        self._answer = make(self._complete)

    def ask(self, question: str) -> Reply:
        """Answer a question."""
        started = time.perf_counter()
        self._prompts, self._tokens = [], 0
        text = self._answer(question)
        return Reply(text, "\n".join(self._prompts), self._tokens, self._first - started, len(self._prompts))

    def _complete(self, prompt: str) -> str:
        first: list[float] = []

        def note_time(_tokens: Any, scores: Any) -> Any:
            first.append(time.perf_counter())
            return scores

        message = {"role": "user", "content": prompt}
        reply = self._llama.create_chat_completion(
            [message], max_tokens=MAX_TOKENS, temperature=0.0, logits_processor=[note_time]
        )
        self._prompts.append(prompt)
        self._tokens += reply["usage"]["prompt_tokens"]
        self._first = first[0]
        return str(reply["choices"][0]["message"]["content"])


def _langchain(embed: _Embed, documents: Sequence[Document]) -> Callable[[Callable[[str], str]], Callable[[str], str]]:
    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.embeddings import Embeddings
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import PromptTemplate
    from langchain_core.runnables import RunnableLambda, RunnablePassthrough
    from langchain_core.vectorstores import InMemoryVectorStore

    class Vectors(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return embed(texts)

        def embed_query(self, text: str) -> list[float]:
            return embed([text])[0]

    store = InMemoryVectorStore(Vectors())
    store.add_documents(
        [LangChainDocument(page_content=each.text, metadata={"title": each.title}) for each in documents]
    )
    retriever = store.as_retriever(search_kwargs={"k": _LANGCHAIN_PASSAGES})

    def make(complete: Callable[[str], str]) -> Callable[[str], str]:
        sources = retriever | (lambda found: "\n\n".join(each.page_content for each in found))
        chain = (
            {"context": sources, "question": RunnablePassthrough()}
            | PromptTemplate.from_template(_PROMPT)
            | RunnableLambda(lambda prompt: complete(prompt.to_string()))
            | StrOutputParser()
        )
        return chain.invoke

    return make


def _llama_index(
    embed: _Embed, documents: Sequence[Document]
) -> Callable[[Callable[[str], str]], Callable[[str], str]]:
    from llama_index.core import Document as LlamaIndexDocument
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata

    class Vectors(BaseEmbedding):  # type: ignore[misc]
        def _get_query_embedding(self, query: str) -> list[float]:
            return embed([query])[0]

        def _get_text_embedding(self, text: str) -> list[float]:
            return embed([text])[0]

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return embed(texts)

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

    class Completion(CustomLLM):  # type: ignore[misc]
        complete_text: Any

        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(context_window=4096, num_output=MAX_TOKENS)

        def complete(self, prompt: str, *_: Any, **__: Any) -> CompletionResponse:
            return CompletionResponse(text=self.complete_text(prompt))

        def stream_complete(self, prompt: str, *_: Any, **__: Any) -> Any:
            yield self.complete(prompt)

    rows = [LlamaIndexDocument(text=each.text, metadata={"title": each.title}) for each in documents]
    index = VectorStoreIndex.from_documents(rows, embed_model=Vectors())

    def make(complete: Callable[[str], str]) -> Callable[[str], str]:
        engine = index.as_query_engine(llm=Completion(complete_text=complete))
        return lambda question: str(engine.query(question))

    return make
