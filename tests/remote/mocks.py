"""A server without a network: it answers the bodies that it gets, and keeps them."""

import json

import httpx

from leanrag.remote import Clock


class Body(httpx.AsyncByteStream):
    def __init__(self, data):
        self.data = data

    async def __aiter__(self):
        yield self.data


def reply(value, *, status=200, kind="application/json", headers=()):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return httpx.Response(status, headers={"content-type": kind, **dict(headers)}, stream=Body(data))


def refuse(status, message, **more):
    return reply({"error": {"message": message, **more}}, status=status)


def chunk(content=None, finish=None, **more):
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}


def events(*chunks, done=True):
    texts = [text if isinstance(text, str) else json.dumps(text) for text in chunks] + ["[DONE]"] * done
    return reply("".join(f"data: {text}\n\n" for text in texts).encode(), kind="text/event-stream")


class MockServer:
    """Answers each request with `answer(body)`."""

    def __init__(self, answer):
        self.answer, self.requests = answer, []

    def __call__(self, request):
        self.requests.append(request)
        return self.answer(json.loads(request.content))

    @property
    def bodies(self):
        return [json.loads(request.content) for request in self.requests]

    @property
    def options(self):
        """Keywords for the constructors of models, embedders and rerankers."""
        return {
            "base_url": "http://localhost:9/v1",
            "transport": httpx.MockTransport(self),
            "clock": Clock(sleep=_at_once),
        }


async def _at_once(_seconds):
    pass
