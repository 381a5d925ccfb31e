"""The components in LlamaIndex's own engines, and what these do not look at: offsets, budgets, cancellation."""

import asyncio
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("llama_index.core")

from llama_index.core import Document as LlamaDocument
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode

import leanrag
from leanrag import BudgetError, ConfigurationError
from leanrag.adapters.llama_index import LeanRAGEmbedding, LeanRAGLLM, LeanRAGPostprocessor, LeanRAGRetriever
from leanrag.testing import FakeModel, HashEmbedder
from tests.adapters.watched import Watched, check_cancelling
from tests.stories import NILE, PARK, QUESTION, RIGHT, open_rag

pytestmark = pytest.mark.slow  # imports a framework


@pytest.fixture
def rag(tmp_path):
    with open_rag(tmp_path / "kb") as opened:
        opened.add(leanrag.Document(PARK, id="park", title="Releases"), leanrag.Document(NILE, id="nile"))
        yield opened


@pytest.fixture
def llm(monkeypatch):
    """A model that the settings of LlamaIndex name too, so that no engine looks for one of its own."""
    llm = LeanRAGLLM(model=FakeModel(RIGHT, name="small"))
    monkeypatch.setattr(Settings, "_llm", llm)
    monkeypatch.setattr(Settings, "_embed_model", LeanRAGEmbedding(HashEmbedder()))
    return llm


def count_words(text):
    return len(text.split())


def test_a_node_says_where_it_is_from(rag):
    for found in LeanRAGRetriever(rag, k=2).retrieve(QUESTION):
        where, text = found.node.metadata, rag.get_document(found.node.metadata["document_id"]).text
        assert found.node.text == text[where["start"] : where["end"]]
        assert (found.node.start_char_idx, found.node.end_char_idx) == (where["start"], where["end"])
    asynchronous = asyncio.run(LeanRAGRetriever(rag, k=1).aretrieve(QUESTION))
    assert [found.node.metadata["document_id"] for found in asynchronous] == ["park"]


def test_a_query_engine(rag, llm):
    engine = RetrieverQueryEngine.from_args(
        LeanRAGRetriever(rag),
        llm=llm,
        node_postprocessors=[LeanRAGPostprocessor(budget=20, count_tokens=llm.count_tokens)],
    )
    response = engine.query(QUESTION)
    assert str(response) == RIGHT
    [prompt] = llm.model.prompts
    assert "Releases are signed off by Ada Park." in prompt
    assert "spans" not in prompt
    assert "title: Releases" in prompt
    assert response.source_nodes[0].node.metadata["document_id"] == "park"


def test_an_index_of_llama_index(llm):
    index = VectorStoreIndex.from_documents([LlamaDocument(text=PARK), LlamaDocument(text=NILE)])
    [found] = index.as_retriever(similarity_top_k=1).retrieve("Who signs off releases? Ada Park?")
    assert found.node.text == PARK


def test_a_chat_engine_and_its_counts(llm):
    counter = TokenCountingHandler(tokenizer=lambda text: [0])
    llm.callback_manager = CallbackManager([counter])
    memory = ChatMemoryBuffer.from_defaults(token_limit=500, tokenizer_fn=str.split)
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    assert str(engine.chat(QUESTION)) == RIGHT
    assert "".join(engine.stream_chat("And then?").response_gen) == RIGHT
    assert f"<user>{QUESTION}</user><assistant>{RIGHT}</assistant><user>And then?</user>" in llm.model.prompts[-1]
    assert counter.completion_llm_token_count == 2 * llm.count_tokens(RIGHT)


@pytest.mark.parametrize("budget", [7, 9, 14, 40, 1000])
def test_a_postprocessor_keeps_to_its_budget_and_to_the_words(budget):
    nodes = [
        NodeWithScore(node=TextNode(text=text, id_=name), score=0.5) for name, text in (("nile", NILE), ("park", PARK))
    ]
    processor = LeanRAGPostprocessor(budget=budget, count_tokens=count_words)
    kept = processor.postprocess_nodes(nodes, query_str=QUESTION)
    assert sum(count_words(node.text) for node in kept) <= budget
    assert kept[0].node.node_id == "park"
    texts = {"nile": NILE, "park": PARK}
    for found in kept:
        spans = [texts[found.node.node_id][start:end] for start, end in found.node.metadata["spans"]]
        assert found.text.split() == " ".join(spans).split()
    assert [node.text for node in nodes] == [NILE, PARK]  # an argument does not change
    assert [node.text for node in asyncio.run(processor.apostprocess_nodes(nodes, query_str=QUESTION))] == [
        node.text for node in kept
    ]


def test_a_postprocessor_says_when_nothing_fits():
    with pytest.raises(BudgetError):
        LeanRAGPostprocessor(budget=1, count_tokens=count_words).postprocess_nodes(
            [NodeWithScore(node=TextNode(text=PARK))]
        )


def test_all_ways_to_ask_are_the_same(llm):
    messages = [ChatMessage(role="system", content="Be short."), ChatMessage(role="user", content=QUESTION)]

    async def ask():
        chat = (await llm.achat(messages)).message.content
        pieces = [part.delta async for part in await llm.astream_chat(messages)]
        completed = (await llm.acomplete(QUESTION)).text
        completed_pieces = [part.delta async for part in await llm.astream_complete(QUESTION)]
        return chat, "".join(pieces), completed, "".join(completed_pieces)

    *streamed, last = llm.stream_chat(messages)
    assert {
        llm.chat(messages).message.content,
        llm.complete(QUESTION).text,
        last.message.content,
        *asyncio.run(ask()),
    } == {RIGHT}
    assert "".join(part.delta for part in streamed) == RIGHT
    assert last.raw["finish_reason"] == "stop"
    assert last.additional_kwargs["completion_tokens"] == llm.count_tokens(RIGHT)
    assert last.additional_kwargs == llm.chat(messages).additional_kwargs


def test_a_formatted_prompt_is_completed_as_it_is(llm):
    llm.complete("<user>Who?</user><assistant>", formatted=True)
    llm.complete("Who?")
    assert llm.model.prompts == ["<user>Who?</user><assistant>"] * 2


def test_what_the_model_is(llm):
    assert llm.metadata.context_window == llm.model.n_ctx
    assert (llm.metadata.is_chat_model, llm.metadata.model_name, llm.metadata.num_output) == (True, "small", 256)


def test_options_of_the_model_and_of_a_call():
    llm = LeanRAGLLM(model=FakeModel("one two three four"), max_tokens=3, stop=["four"])
    assert llm.complete("?").text == "one two"
    assert llm.complete("?", max_tokens=50).text == "one two three "
    with pytest.raises(ConfigurationError, match="'tools'"):
        llm.complete("?", tools=[])


def test_what_a_local_model_cannot_read_is_an_error(llm):
    with pytest.raises(ConfigurationError, match="'image'"):
        llm.chat([ChatMessage(role="user", blocks=[TextBlock(text="?"), ImageBlock(url="https://example.org/a.png")])])
    with pytest.raises(ConfigurationError, match="'tool'"):
        llm.chat([ChatMessage(role="tool", content="7")])


def test_thoughts_are_kept_apart():
    llm = LeanRAGLLM(model=FakeModel("<think>Hm.</think>Ada Park."))
    assert (llm.complete("?").text, llm.complete("?").raw["thoughts"]) == ("Ada Park.", "Hm.")
    parts = list(llm.stream_complete("?"))
    assert "".join(part.delta for part in parts) == "Ada Park."
    assert "".join(part.additional_kwargs.get("thinking_delta", "") for part in parts) == "Hm."


def test_leaving_a_stream_stops_the_model():
    model = Watched()
    pieces = LeanRAGLLM(model=model, max_tokens=1000).stream_complete("?")
    next(pieces)
    pieces.close()
    assert model.closed.is_set()


@pytest.mark.parametrize("call", ["acomplete", "astream_chat"])
def test_cancelling_a_task_stops_the_model(call):
    model = Watched()
    llm = LeanRAGLLM(model=model, max_tokens=1000)

    async def read():
        if call == "acomplete":
            await llm.acomplete("?")
        async for _ in await llm.astream_chat([ChatMessage(role="user", content="?")]):
            pass

    check_cancelling(model, read)


def test_embeddings_are_those_of_the_embedder():
    embedder = HashEmbedder()
    embedding = LeanRAGEmbedding(embedder)
    assert embedding.model_name == embedder.id
    assert embedding.get_text_embedding(PARK) == embedder.embed_documents([PARK])[0].tolist()
    assert embedding.get_query_embedding(QUESTION) == embedder.embed_queries([QUESTION])[0].tolist()
    assert embedding.get_text_embedding_batch([PARK, NILE]) == embedder.embed_documents([PARK, NILE]).tolist()
    assert asyncio.run(embedding.aget_text_embedding_batch([PARK])) == [embedding.get_text_embedding(PARK)]
    assert asyncio.run(embedding.aget_query_embedding(QUESTION)) == embedding.get_query_embedding(QUESTION)


def test_a_gguf_file_by_its_path(tiny_gguf):
    llm = LeanRAGLLM(model=tiny_gguf, max_tokens=8)
    try:
        assert llm.complete("Hi").additional_kwargs["completion_tokens"] <= 8
    finally:
        llm.model.close()
