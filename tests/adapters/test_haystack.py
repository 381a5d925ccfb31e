"""The components in Haystack's own pipelines, and what these do not look at: offsets, budgets, cancellation."""

import os
import warnings

import pytest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("haystack")

from haystack import Document as HaystackDocument
from haystack import Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.core.errors import SerializationError
from haystack.dataclasses import ChatMessage, ImageContent, ToolCall

import leanrag
from leanrag import BudgetError, ConfigurationError
from leanrag.adapters.haystack import LeanRAGChatGenerator, LeanRAGPacker, LeanRAGRetriever
from leanrag.testing import FakeModel
from tests.adapters.watched import Watched
from tests.stories import NILE, PARK, QUESTION, RIGHT, open_rag

pytestmark = pytest.mark.slow  # imports a framework

TEMPLATE = "{% for document in documents %}{{ document.content }}\n{% endfor %}{{ query }}"


@pytest.fixture
def rag(tmp_path):
    with open_rag(tmp_path / "kb") as opened:
        opened.add(leanrag.Document(PARK, id="park", title="Releases"), leanrag.Document(NILE, id="nile"))
        yield opened


def count_words(text):
    return len(text.split())


def test_a_document_says_where_it_is_from(rag):
    found = LeanRAGRetriever(rag).run(QUESTION)["documents"]
    assert {document.meta["document_id"] for document in found} == {"park", "nile"}
    for document in found:
        text = rag.get_document(document.meta["document_id"]).text
        assert document.content == text[document.meta["start"] : document.meta["end"]]
        assert document.score == document.meta["score"]
        assert document.to_dict()["id"] == document.id  # its own, not one that Haystack made


def test_a_call_decides_over_the_component(rag):
    rag.update("nile", metadata={"year": 2026})
    retriever = LeanRAGRetriever(rag, top_k=2, where={"year": 2026})
    assert [document.meta["document_id"] for document in retriever.run(QUESTION)["documents"]] == ["nile"]
    [document] = retriever.run(QUESTION, top_k=1, where={})["documents"]
    assert document.meta["document_id"] == "park"


def test_a_pipeline(rag):
    model = FakeModel(RIGHT, name="small")
    generator = LeanRAGChatGenerator(model)
    pipeline = Pipeline()
    pipeline.add_component("retriever", LeanRAGRetriever(rag))
    pipeline.add_component("packer", LeanRAGPacker(20, generator.count_tokens))
    builder = ChatPromptBuilder([ChatMessage.from_user(TEMPLATE)], required_variables=["documents", "query"])
    pipeline.add_component("builder", builder)
    pipeline.add_component("generator", generator)
    pipeline.connect("retriever.documents", "packer.documents")
    pipeline.connect("packer.documents", "builder.documents")
    pipeline.connect("builder.prompt", "generator.messages")
    asked = {"retriever": {"query": QUESTION}, "packer": {"query": QUESTION}, "builder": {"query": QUESTION}}
    result = pipeline.run(asked, include_outputs_from={"packer"})
    [reply] = result["generator"]["replies"]
    assert reply.text == RIGHT
    assert reply.meta["model"] == "small"
    assert reply.meta["finish_reason"] == "stop"
    usage = reply.meta["usage"]
    assert usage["prompt_tokens"] == model.count([leanrag.Message("user", model.prompts[0][6:-18])])
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    packed = result["packer"]["documents"]
    assert sum(model.count_tokens(document.content) for document in packed) <= 20
    assert packed[0].content == RIGHT
    assert RIGHT in model.prompts[0]
    with pytest.raises(SerializationError):  # a folder that is open cannot be written to YAML
        pipeline.dumps()


def test_a_packer_says_what_it_kept():
    texts = [f"Nothing is here. {PARK} The end.", NILE, ""]
    documents = [HaystackDocument(content=text or None, meta={"number": i}) for i, text in enumerate(texts)]
    packed = LeanRAGPacker(8, count_words).run(QUESTION, documents)["documents"]
    assert [document.meta["number"] for document in packed] == [0]
    [(start, end)] = packed[0].meta["spans"]
    assert packed[0].content == texts[0][start:end] == RIGHT
    assert packed[0].id == documents[0].id
    assert "spans" not in documents[0].meta
    assert LeanRAGPacker(8, count_words).run(QUESTION, [])["documents"] == []
    with pytest.raises(BudgetError):
        LeanRAGPacker(1, count_words).run(QUESTION, documents)


def test_a_reply_is_streamed():
    chunks = []
    generator = LeanRAGChatGenerator(FakeModel("<think>Who? Ada.</think>Ada Park."), streaming_callback=chunks.append)
    [reply] = generator.run(QUESTION)["replies"]
    assert reply.text == "".join(chunk.content for chunk in chunks) == "Ada Park."
    thoughts = "".join(chunk.reasoning.reasoning_text for chunk in chunks if chunk.reasoning)
    assert reply.reasoning.reasoning_text == thoughts.strip() == "Who? Ada."
    assert [chunk.index for chunk in chunks if chunk.start] == [0, 1]
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].meta == reply.meta
    assert chunks[0].component_info.type.endswith("LeanRAGChatGenerator")


def test_an_error_of_the_callback_stops_the_model():
    def fail(_chunk):
        raise OSError("the client went away")

    model = Watched()
    with pytest.raises(OSError, match="went away"):
        LeanRAGChatGenerator(model).run(QUESTION, streaming_callback=fail)
    assert model.closed.is_set()


def test_options_of_the_call_come_first():
    generator = LeanRAGChatGenerator(FakeModel("one two three four"), generation_kwargs={"max_tokens": 3, "seed": 1})
    [reply] = generator.run(QUESTION, generation_kwargs={"max_tokens": 1})["replies"]
    assert (reply.text, reply.meta["finish_reason"]) == ("one", "length")
    [reply] = generator.run(QUESTION)["replies"]
    assert reply.text == "one two"
    with pytest.raises(ConfigurationError, match="'tools'"):
        generator.run(QUESTION, generation_kwargs={"tools": []})


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (ChatMessage.from_user(content_parts=["Who?", ImageContent("aGk=", mime_type="image/png")]), "images"),
        (ChatMessage.from_assistant(tool_calls=[ToolCall("find", {})]), "calls of tools"),
        (ChatMessage.from_tool("found", ToolCall("find", {})), "results of tools"),
    ],
)
def test_what_is_no_text_is_refused(message, what):
    with pytest.raises(ConfigurationError, match=what):
        LeanRAGChatGenerator(FakeModel()).run([message])


@pytest.mark.slow
def test_a_model_with_a_name_can_be_written_to_yaml(tiny_gguf):
    pipeline = Pipeline()
    pipeline.add_component("generator", LeanRAGChatGenerator(tiny_gguf, generation_kwargs={"max_tokens": 4}))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["leanrag.adapters.haystack"])
    assert again.dumps() == pipeline.dumps()
    replies = [
        each.run({"messages": [ChatMessage.from_user("Who?")]})["generator"]["replies"] for each in (pipeline, again)
    ]
    assert replies[0] == replies[1]
    for each in (pipeline, again):
        each.get_component("generator").close()
