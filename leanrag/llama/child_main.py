"""The child process: it loads a model and answers calls, one JSON value a line, until its standard input ends."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
from typing import IO, Any

from leanrag.llama.model import LlamaCppModel
from leanrag.llama.options import LlamaOptions
from leanrag.llama.wire import plain_adapters, plain_error, read_prompt, read_settings
from leanrag.types import CancelToken

__all__ = ["serve"]


def serve(path: str, settings: dict[str, Any]) -> None:
    """Load the model and answer calls until standard input ends; the way of the child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it cancels what it does not want
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing else may write there
    server = _Server(output)
    server.load(path, settings)
    for line in sys.stdin:
        server.take(json.loads(line))
    os._exit(0)


class _Server:
    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._tokens: dict[int, CancelToken] = {}

    def load(self, path: str, settings: dict[str, Any]) -> None:
        try:
            self._model = model = LlamaCppModel(path, **read_settings(settings | {"trial": False}))
        except Exception as error:  # noqa: BLE001 - handed to the parent
            self._send_error(-1, error)
            os._exit(0)
        facts: dict[str, Any] = {"name": model.name, "n_ctx": model.n_ctx, "is_chat": model.is_chat}
        facts["adapters"] = plain_adapters(model.adapters)
        facts["placement"] = dataclasses.asdict(model.placement)
        facts |= {name: getattr(model.info, name) for name in ("architecture", "n_params", "n_ctx_train", "size_bytes")}
        self._send({"id": -1, "value": facts})

    def take(self, call: dict[str, Any]) -> None:
        number = call["id"]
        if call["method"] == "cancel":
            token = self._tokens.get(number)
            if token is not None:
                token.cancel()
            return
        self._tokens[number] = CancelToken()
        threading.Thread(target=self._answer, args=(number, call["method"], call["arguments"]), daemon=True).start()

    def _answer(self, number: int, method: str, arguments: dict[str, Any]) -> None:
        try:
            self._send({"id": number, "value": getattr(self, "_" + method)(number, **arguments)})
        except Exception as error:  # noqa: BLE001 - handed to the parent
            self._send_error(number, error)
        finally:
            self._tokens.pop(number, None)

    def _is_loaded(self, _: int) -> bool:
        return self._model.is_loaded

    def _count_tokens(self, _: int, text: str) -> int:
        return self._model.count_tokens(text)

    def _tokenize(self, _: int, text: str) -> list[tuple[int, int]]:
        return self._model.tokenize(text)

    def _count(self, _: int, prompt: Any) -> int:
        return self._model.count(read_prompt(prompt))

    def _render(self, _: int, prompt: Any) -> str:
        return self._model.render(read_prompt(prompt))

    def _score_many(self, number: int, pairs: list[Any], timeout_seconds: float | None) -> list[dict[str, Any]]:
        unpacked = [(None if condition is None else read_prompt(condition), text) for condition, text in pairs]
        scores = self._model.score_many(unpacked, timeout_seconds=timeout_seconds, cancel=self._tokens[number])
        return [dataclasses.asdict(score) for score in scores]

    def _generate(self, number: int, prompt: Any, options: dict[str, Any]) -> dict[str, Any]:
        return dataclasses.asdict(self._model.generate(read_prompt(prompt), cancel=self._tokens[number], **options))

    def _generate_many(self, number: int, prompts: Any, options: Any) -> list[dict[str, Any]]:
        generations = self._model.generate_many(map(read_prompt, prompts), cancel=self._tokens[number], **options)
        return [dataclasses.asdict(generation) for generation in generations]

    def _stream(self, number: int, prompt: Any, options: dict[str, Any]) -> dict[str, Any]:
        stream = self._model.stream(read_prompt(prompt), LlamaOptions(cancel=self._tokens[number], **options))
        for piece in stream.pieces():
            self._send({"id": number, "text": piece.text, "is_thought": piece.is_thought})
        return dataclasses.asdict(stream.result)

    def _send(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._output.write(json.dumps(event) + "\n")
            self._output.flush()

    def _send_error(self, number: int, error: Exception) -> None:
        self._send({"id": number, "error": plain_error(error)})
