"""The usual way: search, then `llama_cpp.Llama` reads the ten best passages whole, one request at a time."""

from __future__ import annotations

import time
from typing import Any

import leanrag
from benchmarks.end_to_end.observing import Reply
from leanrag.llama.placement import gpu_devices
from leanrag.models import resolve_model
from leanrag.threads import usable_cores

__all__ = ["PASSAGES", "UsualWay", "load_llama"]

PASSAGES = 10
MAX_TOKENS = 64
_PROMPT = "{context}\n\nBased only on the text above, answer this question in a few words: {question}"


def load_llama(name: str) -> Any:
    """Return a model that is known by name, loaded as the documentation of llama-cpp-python shows; on a GPU if there is one."""
    import llama_cpp

    cores = usable_cores()
    path = str(resolve_model(name).path)
    layers = -1 if gpu_devices() else 0
    llama = llama_cpp.Llama(
        path, n_ctx=4096, n_threads=cores, n_threads_batch=cores, n_gpu_layers=layers, verbose=False
    )
    llama.create_completion("Is it loaded?", max_tokens=1)
    return llama


class UsualWay:
    """Answers with `llama_cpp.Llama` from whole passages.

    Args:
        name: Of the row.
        llama: The model.
        rag: Finds the passages.
        is_large: Whether it is the largest model.
    """

    def __init__(self, name: str, llama: Any, rag: leanrag.Rag, *, is_large: bool) -> None:
        self.name = name
        self._llama, self._rag, self._is_large = llama, rag, is_large

    def ask(self, question: str) -> Reply:
        """Answer a question."""
        started = time.perf_counter()
        context = "\n\n".join(hit.chunk.text for hit in self._rag.search(question, PASSAGES))
        message = {"role": "user", "content": _PROMPT.format(context=context, question=question)}
        first: list[float] = []

        def note_time(_tokens: Any, scores: Any) -> Any:
            first.append(time.perf_counter() - started)
            return scores

        reply = self._llama.create_chat_completion(
            [message], max_tokens=MAX_TOKENS, temperature=0.0, logits_processor=[note_time]
        )
        text = reply["choices"][0]["message"]["content"]
        return Reply(text, context, reply["usage"]["prompt_tokens"], first[0], int(self._is_large))
