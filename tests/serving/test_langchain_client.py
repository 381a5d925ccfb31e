"""LangChain's own client of OpenAI's API, in front of the server."""

import asyncio
import functools
import warnings

import httpx
import openai
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("langchain_openai")

from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from leanrag.testing import HashEmbedder

pytestmark = pytest.mark.slow  # imports a framework

QUESTION = "Who signs all permits?"
ANSWER = "Ada Park signs all permits [1]."
WORDS = "Ada Park signs all permits."


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def connect(request, live):
    """Return a function that makes a client with a connection of `httpx`."""
    options = {"model": "handbook", "base_url": f"{live.url}/v1", "api_key": "unused", "max_retries": 0}
    return functools.partial(ChatOpenAI, temperature=0, use_responses_api=request.param, **options)


@pytest.fixture
def chat(connect):
    with httpx.Client(trust_env=False) as http:
        yield connect(http_client=http)


def counts_of(usage):
    return (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"])


def test_an_answer_has_its_usage(chat, rag):
    answer, usage = chat.invoke(QUESTION), rag.ask(QUESTION).usage
    assert answer.text == ANSWER
    assert counts_of(answer.usage_metadata) == (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    assert answer.response_metadata["model_name"] == "handbook"


def test_a_stream_has_the_words_and_the_usage(chat, rag):
    options = {} if chat.use_responses_api else {"stream_usage": True}
    chunks, usage = list(chat.stream(QUESTION, **options)), rag.ask(QUESTION).usage
    assert len([chunk for chunk in chunks if chunk.text]) > 3
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.text == WORDS
    assert counts_of(whole.usage_metadata) == (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


def test_asyncio(connect):
    async def ask():
        async with httpx.AsyncClient(trust_env=False) as http:
            chat = connect(http_async_client=http)
            streamed = "".join([chunk.text async for chunk in chat.astream(QUESTION)])
            return (await chat.ainvoke(QUESTION)).text, streamed

    assert asyncio.run(ask()) == (ANSWER, WORDS)


def test_a_conversation(chat):
    spoken = [
        HumanMessage("What does Bo Lind keep?"),
        AIMessage("The keys of the archive [1]."),
        HumanMessage(QUESTION),
    ]
    assert chat.invoke(spoken).text == ANSWER


def test_tools_are_refused(chat):
    def find(name: str) -> str:
        """Find a person."""
        return name

    with pytest.raises(openai.BadRequestError, match="tools"):
        chat.bind_tools([find]).invoke(QUESTION)


def test_embeddings(live):
    texts = ["Ada Park signs.", "Bo Lind keeps the keys."]
    with httpx.Client(trust_env=False) as http:
        options = {"base_url": f"{live.url}/v1", "api_key": "unused", "http_client": http}
        vectors = OpenAIEmbeddings(model="hash-64", check_embedding_ctx_length=False, **options).embed_documents(texts)
    assert vectors == pytest.approx(HashEmbedder().embed_documents(texts))
