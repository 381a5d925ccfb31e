"""The standard tests of LangChain's integrations, and what they do not look at: offsets, budgets, cancellation."""

import pytest

pytest.importorskip("langchain_tests")
pytest.importorskip("pytest_benchmark")

from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
)
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests
from pydantic import BaseModel

import leanrag
from leanrag import BudgetError, ConfigurationError, GenerationTimeout, Usage
from leanrag.adapters.langchain import ChatLeanRAG, LeanRAGCompressor, LeanRAGEmbeddings, LeanRAGRetriever
from leanrag.testing import FakeModel, HashEmbedder
from tests.adapters.watched import Watched, check_cancelling
from tests.stories import NILE, PARK, QUESTION, RIGHT, open_rag

pytestmark = pytest.mark.slow  # imports a framework


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def rag(tmp_path):
    with open_rag(tmp_path / "kb") as opened:
        opened.add(
            *(leanrag.Document(f"{PARK} Note {i}.\n\n{NILE}", id=f"note-{i}", title=f"Note {i}") for i in range(5))
        )
        yield opened


def count_words(text):
    return len(text.split())


class TestChatUnit(ChatModelUnitTests):
    chat_model_class = ChatLeanRAG
    chat_model_params = property(lambda self: {"model": FakeModel(RIGHT, name="small")})
    has_tool_calling = False
    has_structured_output = False

    @pytest.mark.xfail(reason="how long a constructor takes says how busy the machine is")
    def test_init_time(self):
        raise NotImplementedError


@pytest.mark.anyio
class TestChat(ChatModelIntegrationTests):
    chat_model_class = ChatLeanRAG
    chat_model_params = property(
        lambda self: {"model": FakeModel("Ada Park, since **1999**.\n\n- one\n- two", name="small")}
    )
    has_tool_calling = False
    has_structured_output = False
    supports_json_mode = False


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    embeddings_class = LeanRAGEmbeddings
    embedding_model_params = property(lambda self: {"embedder": HashEmbedder()})


@pytest.mark.anyio
class TestEmbeddings(EmbeddingsIntegrationTests):
    embeddings_class = LeanRAGEmbeddings
    embedding_model_params = property(lambda self: {"embedder": HashEmbedder()})


@pytest.mark.anyio
class TestRetriever(RetrieversIntegrationTests):
    retriever_constructor = LeanRAGRetriever
    retriever_query_example = QUESTION

    @pytest.fixture(autouse=True)
    def _use(self, rag):
        self.rag = rag

    @property
    def retriever_constructor_params(self):
        return {"rag": self.rag}


def test_a_document_says_where_it_is_from(rag):
    for document in LeanRAGRetriever(rag=rag).invoke(QUESTION):
        where = document.metadata
        text = rag.get_document(where["document_id"]).text
        assert document.page_content == text[where["start"] : where["end"]]
        assert document.id == f"{where['document_id']}:{where['start']}-{where['end']}"


def test_a_retriever_filters(rag):
    rag.update("note-3", metadata={"team": "core"})
    found = LeanRAGRetriever(rag=rag, where={"team": "core"}).invoke(QUESTION)
    assert {document.metadata["document_id"] for document in found} == {"note-3"}


@pytest.mark.parametrize("budget", [7, 9, 14, 40, 1000])
def test_a_compressor_keeps_to_its_budget_and_to_the_words(budget):
    documents = [Document(NILE, id="nile", metadata={"page": 3}), Document(PARK, id="park"), Document("  ", id="empty")]
    compressor = LeanRAGCompressor(budget=budget, count_tokens=count_words)
    kept = compressor.compress_documents(documents, QUESTION)
    assert sum(count_words(document.page_content) for document in kept) <= budget
    assert kept[0].id == "park"
    assert "Releases are signed off" in kept[0].page_content
    texts = {"nile": NILE, "park": PARK}
    for document in kept:
        spans = [texts[document.id][start:end] for start, end in document.metadata["spans"]]
        assert document.page_content.split() == " ".join(spans).split()
        assert document.metadata.get("page") == (3 if document.id == "nile" else None)
    assert documents[0].metadata == {"page": 3}  # an argument does not change


def test_a_compressor_says_when_nothing_fits():
    with pytest.raises(BudgetError):
        LeanRAGCompressor(budget=1, count_tokens=count_words).compress_documents([Document(PARK)], QUESTION)
    assert LeanRAGCompressor(budget=1, count_tokens=count_words).compress_documents([], QUESTION) == []


def test_a_chain(rag):
    model = FakeModel(RIGHT)
    prompt = ChatPromptTemplate.from_messages([("system", "Use only: {context}"), ("human", "{question}")])
    documents = LeanRAGRetriever(rag=rag, k=2).invoke(QUESTION)
    chain = prompt | ChatLeanRAG(model=model) | StrOutputParser()
    assert chain.invoke({"context": documents[0].page_content, "question": QUESTION}) == RIGHT
    assert "".join(chain.stream({"context": "", "question": QUESTION})) == RIGHT
    assert documents[0].page_content in model.prompts[0]
    assert f"<user>{QUESTION}</user>" in model.prompts[0]


def test_usage_is_what_the_model_counts():
    chat, counter = ChatLeanRAG(model=FakeModel(RIGHT, name="small")), UsageMetadataCallbackHandler()
    messages = [
        SystemMessage("Be short."),
        HumanMessage(QUESTION),
        AIMessage("What?"),
        HumanMessage([{"type": "text", "text": "Who?"}]),
    ]
    answer = chat.invoke(messages, config={"callbacks": [counter]})
    usage = answer.usage_metadata
    assert usage["input_tokens"] == chat.get_num_tokens_from_messages(messages)
    assert usage["output_tokens"] == chat.get_num_tokens(RIGHT)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert counter.usage_metadata["small"]["total_tokens"] == usage["total_tokens"]
    assert answer.response_metadata["finish_reason"] == "stop"


def test_callbacks_hear_each_piece():
    heard = []

    class Listener(BaseCallbackHandler):
        def on_llm_new_token(self, token, **_):
            heard.append(token)

    pieces = [
        chunk.text for chunk in ChatLeanRAG(model=FakeModel(RIGHT)).stream("?", config={"callbacks": [Listener()]})
    ]
    assert "".join(heard) == "".join(pieces) == RIGHT
    assert len(heard) > 5


def test_options_of_the_model_and_of_a_call():
    chat = ChatLeanRAG(model=FakeModel("one two three four"), max_tokens=3, stop=["four"])
    cut = chat.invoke("?")
    assert (cut.content, cut.response_metadata["finish_reason"]) == ("one two", "length")
    assert chat.invoke("?", max_tokens=50).content == "one two three "
    assert chat.invoke("?", max_tokens=50, stop=["three"]).content == "one two "


@pytest.mark.parametrize(
    ("messages", "options", "says"),
    [
        ([HumanMessage([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}])], {}, "'image_url'"),
        ([ToolMessage("7", tool_call_id="1")], {}, "'tool'"),
        ([HumanMessage("?")], {"tools": [{}]}, "'tools'"),
        ([HumanMessage("?")], {"max_tokens": -1}, "max_tokens"),
        ([HumanMessage("?")], {"temperature": "hot"}, "temperature"),
    ],
)
def test_what_a_local_model_cannot_do_is_an_error(messages, options, says):
    with pytest.raises(ConfigurationError, match=says):
        ChatLeanRAG(model=FakeModel()).invoke(messages, **options)


def test_a_time_limit():
    chat = ChatLeanRAG(model=FakeModel("word " * 1000, token_seconds=0.01), timeout=0.05, max_tokens=1000)
    with pytest.raises(GenerationTimeout):
        chat.invoke("?")


def test_leaving_a_stream_stops_the_model():
    model = Watched()
    pieces = ChatLeanRAG(model=model, max_tokens=1000).stream("?")
    next(pieces)
    pieces.close()
    assert model.closed.is_set()


@pytest.mark.parametrize("call", ["ainvoke", "astream"])
def test_cancelling_a_task_stops_the_model(call):
    model = Watched()
    chat = ChatLeanRAG(model=model, max_tokens=1000)

    async def read():
        if call == "ainvoke":
            await chat.ainvoke("?")
        async for _ in chat.astream("?"):
            pass

    check_cancelling(model, read)


def test_thoughts_are_kept_apart():
    chat = ChatLeanRAG(model=FakeModel("<think>Hm.</think>Ada Park."))
    answer = chat.invoke("?")
    assert (answer.content, answer.additional_kwargs["reasoning_content"]) == ("Ada Park.", "Hm.")
    whole = None
    for chunk in chat.stream("?"):
        whole = chunk if whole is None else whole + chunk
    assert (whole.content, whole.additional_kwargs["reasoning_content"]) == ("Ada Park.", "Hm.")


class Release(BaseModel):
    number: int
    is_signed: bool


def test_structured_output_is_enforced_by_a_grammar(tiny):
    chat = ChatLeanRAG(model=tiny, max_tokens=60)
    answer = chat.with_structured_output(Release).invoke("Hi")
    assert isinstance(answer, Release)
    both = chat.with_structured_output(Release.model_json_schema(), include_raw=True).invoke("Hi")
    assert Release.model_validate(both["parsed"]) == answer
    assert both["parsing_error"] is None
    assert isinstance(both["raw"], AIMessage)
    with pytest.raises(ConfigurationError, match="keep to a schema"):
        ChatLeanRAG(model=FakeModel()).with_structured_output(Release)


def test_a_gguf_file_by_its_path(tiny_gguf):
    chat = ChatLeanRAG(model=tiny_gguf, max_tokens=8)
    try:
        assert chat.invoke("Hi").usage_metadata["output_tokens"] <= 8
        assert chat.invoke("Hi").response_metadata["model_name"] == "tiny"
    finally:
        chat.model.close()
    with pytest.raises(ConfigurationError, match="no-such-model"):
        ChatLeanRAG(model="no-such-model")


def test_usage_of_a_cached_prompt(tiny):
    chat = ChatLeanRAG(model=tiny, max_tokens=4)
    chat.invoke("The same question")
    again = chat.invoke("The same question").usage_metadata
    assert again["input_token_details"]["cache_read"] > 0
    assert Usage(again["input_tokens"], again["output_tokens"]).total_tokens == again["total_tokens"]
