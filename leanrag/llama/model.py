"""`LlamaCppModel`: a GGUF file that answers prompts."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

from leanrag.errors import ConfigurationError
from leanrag.llama.chat import ChatTemplate, encode_chat, encode_text
from leanrag.llama.engine import Completion, Engine, EngineSettings, Request, StopMatcher
from leanrag.llama.gguf import GGUFInfo, check_gguf
from leanrag.llama.library import require_gpu
from leanrag.llama.sampling import Sampler, SamplingOptions
from leanrag.llama.threads import usable_cores
from leanrag.types import CancelToken, Generation, Message, Prompt, Usage

__all__ = ["LlamaCppModel", "LlamaCppStream"]

_DEFAULT_N_CTX = 4096


class LlamaCppModel:
    """A GGUF model run by llama.cpp inside this process. Any thread may call it; requests are served in order.

    Args:
        path: The GGUF file.
        name: What `Answer.model` says; the file's name without ending by default.
        n_ctx: Window in tokens; by default what the model was trained on, at most 4,096. llama.cpp rounds it up to a
            multiple of 256; the attribute of this name tells what was allocated.
        threads: Threads to compute with; by default the physical cores that this process may use.
        n_gpu_layers: Layers to put on the GPU, -1 for all; needs a build of llama.cpp with one.
        n_batch: Most prompt tokens computed at once.
        chat_template: Jinja source in place of the file's own.
        max_queue: Requests that may wait before `QueueFullError`.
        no_repeats: End a generation where it begins to write a line or sentence (of 12 characters at least) that it
            wrote before; its `finish_reason` is then "repetition". Small models fall into such loops.

    Raises:
        ModelLoadError: The file is missing, truncated, malformed, or refused by llama.cpp.
        ConfigurationError: An argument cannot work.

    Example:
        >>> with LlamaCppModel("model.gguf") as model:  # doctest: +SKIP
        ...     model.generate([Message("user", "Hello")], max_tokens=8).text
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        n_ctx: int | None = None,
        threads: int | None = None,
        n_gpu_layers: int = 0,
        n_batch: int = 512,
        chat_template: str | None = None,
        max_queue: int = 64,
        no_repeats: bool = False,
    ) -> None:
        self.path = Path(path)
        self.info: GGUFInfo = check_gguf(self.path)
        self.name = name or self.path.stem
        trained = self.info.n_ctx_train or _DEFAULT_N_CTX
        for argument, value in (("n_ctx", n_ctx), ("threads", threads), ("n_batch", n_batch), ("max_queue", max_queue)):
            if value is not None and value < 1:
                raise ConfigurationError(f"`{argument}` must be at least 1, got {value!r}")
        if n_ctx is not None and n_ctx > trained:
            raise ConfigurationError(f"`n_ctx` must be at most {trained:,}, the window of {self.name}, got {n_ctx:,}")
        if n_gpu_layers < -1:
            raise ConfigurationError(f"`n_gpu_layers` must be -1 (all), 0 (none) or a count, got {n_gpu_layers!r}")
        require_gpu(n_gpu_layers)
        self._no_repeats = no_repeats
        self._engine = Engine(
            self.path,
            EngineSettings(
                n_ctx=n_ctx or min(trained, _DEFAULT_N_CTX),
                n_batch=n_batch,
                threads=threads or usable_cores(),
                n_gpu_layers=n_gpu_layers,
                max_queue=max_queue,
            ),
        )
        self._finalizer = weakref.finalize(self, self._engine.close)  # also at interpreter exit
        vocabulary = self._engine.vocabulary
        source = chat_template or self.info.chat_template
        bos, eos = vocabulary.text(vocabulary.bos), vocabulary.text(vocabulary.eos)
        self._template = ChatTemplate(source, bos=bos, eos=eos) if source else None

    def __repr__(self) -> str:
        return f"LlamaCppModel({self.name!r}, n_ctx={self.n_ctx})"

    def __enter__(self) -> LlamaCppModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop every request and free the model; idempotent."""
        self._finalizer()

    @property
    def n_ctx(self) -> int:
        """Window in tokens, as allocated."""
        return self._engine.n_ctx

    @property
    def is_chat(self) -> bool:
        """Whether the file carries a chat template."""
        return self._template is not None

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain `text`, no BOS, no template."""
        self._engine.check_usable()
        return len(encode_text(text, self._engine.vocabulary))

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the rendered prompt: exactly `usage.prompt_tokens` of a generation from it."""
        return len(self._encode(prompt))

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as the model reads it, without a BOS that the template does not write."""
        if isinstance(prompt, str):
            return prompt
        return self._require_template().render(_checked(prompt))

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> Generation:
        """Return the completion of `prompt`; see `leanrag.protocols.LanguageModel` and `SamplingOptions`.

        Ctrl-C stops the computation, a prefill included.
        """
        return self.stream(
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            stop=stop,
            timeout_seconds=timeout_seconds,
            cancel=cancel,
        ).result

    def stream(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> LlamaCppStream:
        """As `generate`, piece by piece: iterate, then read `result`. Leaving the loop early stops the generation."""
        if isinstance(stop, str) or not all(stop):
            raise ConfigurationError(f"`stop` must be a sequence of non-empty strings, got {stop!r}")
        if timeout_seconds is not None and timeout_seconds <= 0:
            raise ConfigurationError(f"`timeout_seconds` must be greater than 0, got {timeout_seconds!r}")
        sampler = Sampler(SamplingOptions(temperature, top_k, top_p, min_p, seed))
        tokens = self._encode(prompt)
        request = self._engine.submit(
            tokens, max_tokens, sampler, StopMatcher(stop, no_repeats=self._no_repeats), timeout_seconds
        )
        if cancel is not None:
            cancel.on_cancel(request.cancel)
        return LlamaCppStream(request, self, len(tokens), sampler.seed)

    def _encode(self, prompt: Prompt) -> list[int]:
        self._engine.check_usable()
        vocabulary = self._engine.vocabulary
        if isinstance(prompt, str):
            tokens = encode_text(prompt, vocabulary)
        else:
            tokens = encode_chat(_checked(prompt), self._require_template(), vocabulary)
        if vocabulary.adds_bos and tokens[:1] != [vocabulary.bos]:
            tokens = [vocabulary.bos, *tokens]
        return tokens

    def _require_template(self) -> ChatTemplate:
        if self._template is None:
            raise ConfigurationError(
                f"{self.name} has no chat template: it completes text. Pass a string as the prompt, or `chat_template=`"
            )
        return self._template


class LlamaCppStream:
    """A generation under way: iterate for text, then read `result`."""

    def __init__(self, request: Request, model: LlamaCppModel, prompt_tokens: int, seed: int | None) -> None:
        self._request, self._model = request, model  # the model must not be freed while the stream runs
        self._prompt_tokens, self._seed = prompt_tokens, seed

    def __iter__(self) -> Iterator[str]:
        return iter(self._request)

    def close(self) -> None:
        """Stop the generation if it still runs."""
        self._request.cancel()

    @property
    def result(self) -> Generation:
        """The whole generation; waits for its end."""
        completion: Completion = self._request.result
        return Generation(
            text=completion.text,
            model=self._model.name,
            finish_reason=completion.finish_reason,
            usage=Usage(self._prompt_tokens, len(completion.token_ids)),
            token_ids=completion.token_ids,
            logprobs=completion.logprobs,
            seed=self._seed,
            prefill_seconds=completion.prefill_seconds,
            decode_seconds=completion.decode_seconds,
        )


def _checked(messages: Sequence[Message]) -> Sequence[Message]:
    if not messages or not all(isinstance(message, Message) for message in messages):
        raise ConfigurationError(f"a prompt is a string or a non-empty sequence of Message, got {messages!r:.200}")
    return messages
