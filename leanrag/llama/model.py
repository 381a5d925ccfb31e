"""`LlamaCppModel`: a GGUF file that answers prompts."""

from __future__ import annotations

import asyncio
import collections
import functools
import logging
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError, QueueFullError
from leanrag.llama.chat import ChatTemplate, encode_chat, encode_text, locate_tokens
from leanrag.llama.counting import TokenCounts
from leanrag.llama.engine import MAX_PARALLEL, Engine, EngineSettings
from leanrag.llama.files.gguf import GGUFInfo, check_gguf
from leanrag.llama.grammar.sampler import Grammar
from leanrag.llama.grammar.schema import schema_to_gbnf
from leanrag.llama.placement.attention import KVType, choices_file
from leanrag.llama.placement.layers import GpuOptions, Placement, Split, check_gpu_options, gpu_devices, renamed
from leanrag.llama.placement.memory import MemoryEstimate, available_bytes, estimate_memory
from leanrag.llama.requests import Request, StopMatcher
from leanrag.llama.sampling import Sampler, SamplingOptions
from leanrag.llama.threads import usable_cores
from leanrag.types import CancelToken, Generation, Message, Prompt, Scores, Usage

if TYPE_CHECKING:
    import pydantic
    from typing_extensions import Unpack

__all__ = ["GenerateOptions", "LlamaCppModel", "LlamaCppStream"]

S = TypeVar("S")
R = TypeVar("R", covariant=True)

logger = logging.getLogger(__name__)

_DEFAULT_N_CTX = 4096
_LEAST_N_CTX = 512
_DEFAULT_N_BATCH = 512
_MEMORY_SHARE = 0.8  # of what is available, for cache and working space


class GenerateOptions(TypedDict, total=False):
    """How to generate; `SamplingOptions` says what the first five mean.

    Attributes:
        temperature: 0 takes the most probable token.
        top_k: Sample among this many; 0 for all.
        top_p: Sample among the fewest whose probabilities reach this.
        min_p: Drop tokens less probable than this share of the most probable.
        seed: Repeats a draw.
        stop: Strings that end the text; they are not part of it.
        schema: JSON Schema, or a pydantic model, that the text keeps to; only a text cut at `max_tokens` is incomplete.
        grammar: The same as GBNF, llama.cpp's notation for grammars; not together with `schema`.
        timeout_seconds: Limit from the call to the end.
        cancel: Stops it from another thread.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    stop: Sequence[str]
    schema: Mapping[str, object] | type[pydantic.BaseModel] | None
    grammar: str | None
    timeout_seconds: float | None
    cancel: CancelToken | None


_DEFAULTS = GenerateOptions(
    temperature=0.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    seed=None,
    stop=(),
    schema=None,
    grammar=None,
    timeout_seconds=None,
    cancel=None,
)


class _Stream(Protocol[R]):
    """Something under way that has a result."""

    def close(self) -> None: ...

    @property
    def result(self) -> R: ...


class LlamaCppModel:
    """A GGUF model run by llama.cpp inside this process. Any thread may call it; requests are computed together.

    Args:
        path: The GGUF file.
        name: What `Answer.model` says; the file's name without ending by default.
        n_ctx: Window in tokens, shared by the requests at work; "auto" for what the model was trained on, at most 4,096,
            and less where memory is short. llama.cpp rounds it up to a multiple of 256; the attribute of this name tells
            what was allocated.
        threads: Threads to compute with; by default the physical cores that this process may use.
        gpu_layers: Layers to put on GPUs, the output layer counted as one; -1 for all, 0 for none. "auto" takes as many as fit
            into what is free there, with window and working space, and none where there is no GPU; `placement` says what it chose.
        split: How several GPUs share the layers: "layer" gives each a run of them, "row" a part of every matrix, "none" uses
            one GPU. By default "layer", or "none" with `main_gpu`. "row" is an error where a backend cannot; in llama-cpp-python
            0.3.36 those are all but SYCL.
        tensor_split: A proportion for each GPU; by default one is filled after another, and as few used as do.
        main_gpu: The GPU of a split "none", from 0.
        n_batch: Most prompt tokens computed at once; by default 512, and 2,048 where a GPU computes.
        chat_template: Jinja source in place of the file's own.
        max_queue: Requests that may wait before `QueueFullError`.
        parallel: Requests computed at once, at most 240; they share the window.
        cache_bytes: Most bytes of computed prompts kept in memory, so that one with the same beginning need not be computed
            again; 0 for none.
        cache_dir: A folder where they survive a restart, at most as many bytes; None for nowhere. Whoever can write to it can
            change answers.
        flash_attn: Attention that is faster where different long prompts are computed together. On CPUs it sums in 16 bits:
            an answer may then depend on what else is computed. None for never there, and always on a GPU; False on a GPU computes
            at most 32 requests at once.
        kv_type: What a number of the window is: "f16", or "q8_0" for half of the memory and some rounding; it needs `flash_attn`.
            "auto" is "f16", and on a GPU what is faster by a tenth: that is measured when a model is loaded there first, and
            remembered in the user's cache folder.
        speculate: Draft tokens by looking them up in the prompt; the text stays the same.
        no_repeats: End a generation where it begins to write a line or sentence (of 12 characters at least) that it
            wrote before; its `finish_reason` is then "repetition". Small models fall into such loops.
        keep_alive: Seconds without a request after which the weights and the window are freed; the next request loads them
            again. Counting and rendering go on without them, and prompts that were computed are kept within `cache_bytes`.
            0 frees as soon as nothing is at work; None never does.
        n_gpu_layers: The old name of `gpu_layers`, until the next minor release.

    Raises:
        ModelLoadError: The file is missing, truncated, malformed, or refused by llama.cpp.
        ConfigurationError: An argument cannot work, or `gpu_layers` do not fit; the message then holds the estimate.

    Note:
        CUDA ends the process when the memory of a GPU runs out in the middle of a computation; llama.cpp makes no error of it.
        What is placed leaves a margin. Where other programs share the GPU, `IsolatedModel` turns that end into an error.

    Example:
        >>> with LlamaCppModel("model.gguf") as model:  # doctest: +SKIP
        ...     model.generate([Message("user", "Hello")], max_tokens=8).text
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        n_ctx: int | Literal["auto"] = "auto",
        threads: int | None = None,
        gpu_layers: int | Literal["auto"] = "auto",
        split: Split | None = None,
        tensor_split: Sequence[float] | None = None,
        main_gpu: int | None = None,
        n_batch: int | None = None,
        chat_template: str | None = None,
        max_queue: int = 64,
        parallel: int = 8,
        cache_bytes: int = 256 * 2**20,
        cache_dir: str | os.PathLike[str] | None = None,
        flash_attn: bool | None = None,
        kv_type: KVType | Literal["auto"] = "auto",
        speculate: bool = False,
        no_repeats: bool = False,
        keep_alive: float | None = None,
        n_gpu_layers: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.info: GGUFInfo = check_gguf(self.path)
        self.name = name or self.path.stem
        allocated = _requested_n_ctx(self.info, n_ctx)
        for argument, value in (
            ("threads", threads),
            ("n_batch", n_batch),
            ("max_queue", max_queue),
            ("parallel", parallel),
        ):
            if value is not None and value < 1:
                raise ConfigurationError(f"`{argument}` must be at least 1, got {value!r}")
        if parallel > MAX_PARALLEL:
            raise ConfigurationError(
                f"`parallel` must be at most {MAX_PARALLEL}, what llama.cpp can tell apart, got {parallel!r}"
            )
        if kv_type not in ("auto", "f16", "q8_0"):
            raise ConfigurationError(f"`kv_type` must be 'auto', 'f16' or 'q8_0', got {kv_type!r}")
        if kv_type == "q8_0" and flash_attn is False:
            raise ConfigurationError("`kv_type` 'q8_0' needs `flash_attn`: leave that out, or set it to True")
        if keep_alive is not None and not 0 <= keep_alive <= threading.TIMEOUT_MAX:
            raise ConfigurationError(
                f"`keep_alive` must be at least 0 seconds, or None to keep the model loaded, got {keep_alive!r}"
            )
        gpu = GpuOptions(
            gpu_layers if n_gpu_layers is None else renamed(n_gpu_layers),
            split,
            None if tensor_split is None else tuple(tensor_split),
            main_gpu,
        )
        check_gpu_options(gpu, gpu_devices())
        self._no_repeats = no_repeats
        self._engine = Engine(
            self.path,
            EngineSettings(
                n_ctx=_fitting_n_ctx(self.info, allocated, n_batch or _DEFAULT_N_BATCH)
                if n_ctx == "auto"
                else allocated,
                n_batch=n_batch,
                threads=threads or usable_cores(),
                gpu=gpu,
                max_queue=max_queue,
                parallel=parallel,
                cache_bytes=cache_bytes,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                flash_attn=flash_attn,
                speculate=speculate,
                keep_alive=keep_alive,
                kv_type=kv_type,
                choices=choices_file(),
            ),
        )
        self._finalizer = weakref.finalize(self, self._engine.stop)
        vocabulary = self._engine.vocabulary
        source = chat_template or self.info.chat_template
        bos, eos = vocabulary.text(vocabulary.bos), vocabulary.text(vocabulary.eos)
        try:
            self._template = ChatTemplate(source, bos=bos, eos=eos) if source else None
        except ConfigurationError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"LlamaCppModel({self.name!r}, n_ctx={self.n_ctx})"

    def __enter__(self) -> LlamaCppModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop every request and free the model; idempotent."""
        self._finalizer.detach()
        self._engine.close()

    @property
    def n_ctx(self) -> int:
        """Window in tokens, as allocated."""
        return self._engine.n_ctx

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory; False after `keep_alive` seconds without a request, and once closed."""
        return self._engine.is_loaded

    @property
    def placement(self) -> Placement:
        """Which layers are on which GPU, what they take there, and why."""
        return self._engine.placement

    @property
    def is_chat(self) -> bool:
        """Whether the file carries a chat template."""
        return self._template is not None

    @staticmethod
    def estimate(
        path: str | os.PathLike[str], *, n_ctx: int | Literal["auto"] = "auto", n_batch: int = 512
    ) -> MemoryEstimate:
        """Return about how much memory a model would take; nothing is loaded.

        Args:
            path: The GGUF file.
            n_ctx: Any window; "auto" looks at the model only, not at the memory that there is.
            n_batch: As for the class.

        Raises:
            ModelLoadError: The file is missing, truncated or malformed.
        """
        info = check_gguf(Path(path))
        n_ctx = _requested_n_ctx(info, n_ctx) if n_ctx == "auto" else n_ctx
        return estimate_memory(info, n_ctx=n_ctx, n_batch=n_batch)

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain `text`, no BOS, no template."""
        self._engine.check_usable()
        return self._token_counts(text)

    @functools.cached_property
    def _token_counts(self) -> TokenCounts:
        return TokenCounts(self._engine.vocabulary)

    def tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the tokens of plain `text`, no BOS, no template, each with the character of `text` that it begins in.

        A space that belongs to a token counts: "a b" may be the tokens "a", " b" that begin in 0 and 1.

        Raises:
            ConfigurationError: The tokenizer leaves out or replaces characters.
        """
        self._engine.check_usable()
        vocabulary = self._engine.vocabulary
        tokens = encode_text(text, vocabulary)
        return list(zip(tokens, locate_tokens(text, tokens, vocabulary), strict=True))

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the rendered prompt: exactly `usage.prompt_tokens` of a generation from it."""
        return len(self._encode(prompt))

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as the model reads it, without a BOS that the template does not write."""
        if isinstance(prompt, str):
            return prompt
        return self._require_template().render(_checked(prompt))

    def generate(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[GenerateOptions]) -> Generation:
        """Return the completion of `prompt`; see `leanrag.protocols.LanguageModel` and `GenerateOptions`.

        Ctrl-C stops the computation, a prefill included.
        """
        return self.stream(prompt, max_tokens=max_tokens, **options).result

    def stream(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[GenerateOptions]) -> LlamaCppStream:
        """As `generate`, piece by piece: iterate, then read `result`. Leaving the loop early stops the generation."""
        return self._submit(prompt, max_tokens, None, options)

    def generate_many(
        self, prompts: Iterable[Prompt], *, max_tokens: int, **options: Unpack[GenerateOptions]
    ) -> list[Generation]:
        """Return the completion of each prompt, in order; they are computed together.

        A prompt that fails stops the others and raises its error.
        """
        return _gather(lambda prompt: self.stream(prompt, max_tokens=max_tokens, **options), prompts)

    async def agenerate(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[GenerateOptions]) -> Generation:
        """As `generate`, for asyncio; cancelling the task stops the generation."""
        stream = self._submit(prompt, max_tokens, asyncio.get_running_loop(), options)
        await stream.wait()
        return stream.result

    async def astream(
        self, prompt: Prompt, *, max_tokens: int, **options: Unpack[GenerateOptions]
    ) -> AsyncIterator[str]:
        """As iterating over `stream`, for asyncio; leaving the loop stops the generation."""
        stream = self._submit(prompt, max_tokens, asyncio.get_running_loop(), options)
        async for piece in stream:
            yield piece

    def score(
        self,
        text: str | Sequence[int],
        *,
        condition: Prompt | None = None,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> Scores:
        """Return the log-probability of each token of `text` after `condition`.

        Args:
            text: Plain text, or tokens.
            condition: What precedes it, as for `generate`; None for nothing but the BOS of models that expect one.
            timeout_seconds: Limit.
            cancel: Stops it from another thread.

        Raises:
            ContextOverflowError: Both together exceed the window.
        """
        return self._submit_score(text, condition, timeout_seconds, cancel).result

    def score_many(
        self,
        pairs: Iterable[tuple[Prompt | None, str | Sequence[int]]],
        *,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Scores]:
        """Return the scores of each `(condition, text)`, in order; what conditions share is computed once."""
        return _gather(lambda pair: self._submit_score(pair[1], pair[0], timeout_seconds, cancel), pairs)

    def _submit(
        self, prompt: Prompt, max_tokens: int, loop: asyncio.AbstractEventLoop | None, options: GenerateOptions
    ) -> LlamaCppStream:
        settings = _DEFAULTS | options
        stop, timeout_seconds, cancel = settings["stop"], settings["timeout_seconds"], settings["cancel"]
        if max_tokens < 1:
            raise ConfigurationError(f"`max_tokens` must be at least 1, got {max_tokens!r}")
        if isinstance(stop, str) or not all(stop):
            raise ConfigurationError(f"`stop` must be a sequence of non-empty strings, got {stop!r}")
        _check_timeout(timeout_seconds)
        sampler = Sampler(
            SamplingOptions(
                settings["temperature"], settings["top_k"], settings["top_p"], settings["min_p"], settings["seed"]
            )
        )
        tokens = self._encode(prompt)
        grammar = self._grammar(settings["schema"], settings["grammar"])
        request = Request(
            tokens,
            max_tokens=max_tokens,
            choose=sampler if grammar is None else functools.partial(_choose, grammar, sampler),
            match_stop=StopMatcher(stop, no_repeats=self._no_repeats and grammar is None),
            timeout_seconds=timeout_seconds,
            loop=loop,
            on_end=None if grammar is None else grammar.close,
        )
        self._engine.submit(request)
        if cancel is not None:
            cancel.on_cancel(request.cancel)
        return LlamaCppStream(request, self, sampler.seed)

    def _grammar(
        self, schema: Mapping[str, object] | type[pydantic.BaseModel] | None, gbnf: str | None
    ) -> Grammar | None:
        if schema is not None and gbnf is not None:
            raise ConfigurationError("give either `schema` or `grammar`, not both")
        if schema is not None:
            gbnf = schema_to_gbnf(schema if isinstance(schema, Mapping) else schema.model_json_schema())
        return None if gbnf is None else Grammar(self._engine.vocabulary, gbnf, limits_work=schema is None)

    def _submit_score(
        self,
        text: str | Sequence[int],
        condition: Prompt | None,
        timeout_seconds: float | None,
        cancel: CancelToken | None,
    ) -> _ScoreStream:
        _check_timeout(timeout_seconds)
        vocabulary = self._engine.vocabulary
        before = self._with_bos([]) if condition is None else self._encode(condition)
        tokens = encode_text(text, vocabulary) if isinstance(text, str) else [int(token) for token in text]
        if not all(0 <= token < vocabulary.n_tokens for token in tokens):
            raise ConfigurationError(f"tokens must be in [0, {vocabulary.n_tokens:,}), the vocabulary of {self.name}")
        if len(before) + len(tokens) < 2:
            return _ScoreStream(None, self, tuple(tokens), (None,) * len(tokens))
        unscored = () if before else (None,)
        request = Request(
            [*before, *tokens],
            max_tokens=0,
            score_from=len(before) + len(unscored),
            timeout_seconds=timeout_seconds,
        )
        self._engine.submit(request)
        if cancel is not None:
            cancel.on_cancel(request.cancel)
        return _ScoreStream(request, self, tuple(tokens), unscored)

    def _encode(self, prompt: Prompt) -> list[int]:
        self._engine.check_usable()
        vocabulary = self._engine.vocabulary
        if isinstance(prompt, str):
            tokens = encode_text(prompt, vocabulary)
        else:
            tokens = encode_chat(_checked(prompt), self._require_template(), vocabulary)
        if not tokens:
            raise ConfigurationError("the prompt is empty; give at least one token")
        return self._with_bos(tokens)

    def _with_bos(self, tokens: list[int]) -> list[int]:
        vocabulary = self._engine.vocabulary
        if vocabulary.adds_bos and tokens[:1] != [vocabulary.bos]:
            return [vocabulary.bos, *tokens]
        return tokens

    def _require_template(self) -> ChatTemplate:
        if self._template is None:
            raise ConfigurationError(
                f"{self.name} has no chat template: it completes text. Pass a string as the prompt, or `chat_template=`"
            )
        return self._template


class LlamaCppStream:
    """A generation under way: iterate for text, then read `result`."""

    def __init__(self, request: Request, model: LlamaCppModel, seed: int | None) -> None:
        self._request, self._model = request, model  # the model must not be freed while the stream runs
        self._seed = seed

    def __iter__(self) -> Iterator[str]:
        return iter(self._request)

    def __aiter__(self) -> AsyncIterator[str]:
        return aiter(self._request)

    async def wait(self) -> None:
        """Wait for the end, in the event loop that it was made for."""
        await self._request.wait()

    def close(self) -> None:
        """Stop the generation if it still runs."""
        self._request.cancel()

    @property
    def result(self) -> Generation:
        """The whole generation; waits for its end."""
        completion = self._request.result
        return Generation(
            text=completion.text,
            model=self._model.name,
            finish_reason=completion.finish_reason,
            usage=Usage(len(self._request.tokens), len(completion.token_ids), completion.cached_tokens),
            token_ids=completion.token_ids,
            logprobs=tuple(score.logprob for score in completion.scores),
            margins=tuple(score.margin for score in completion.scores),
            entropies=tuple(score.entropy for score in completion.scores),
            seed=self._seed,
            prefill_seconds=completion.prefill_seconds,
            decode_seconds=completion.decode_seconds,
        )


class _ScoreStream:
    """A scoring under way; without a request there was nothing to compute."""

    def __init__(
        self, request: Request | None, model: LlamaCppModel, tokens: tuple[int, ...], unscored: tuple[None, ...]
    ) -> None:
        self._request, self._model, self._tokens, self._unscored = request, model, tokens, unscored

    def close(self) -> None:
        if self._request is not None:
            self._request.cancel()

    @property
    def result(self) -> Scores:
        logprobs = self._request.result.prompt_logprobs if self._request else ()
        return Scores(self._tokens, (*self._unscored, *logprobs))


def _gather(submit: Callable[[S], _Stream[R]], items: Iterable[S]) -> list[R]:
    """Submit all items, as many at once as the queue takes, and return their results in order."""
    waiting: collections.deque[_Stream[R]] = collections.deque()
    results: list[R] = []
    try:
        for item in items:
            while True:
                try:
                    waiting.append(submit(item))
                    break
                except QueueFullError:
                    if not waiting:
                        raise
                    results.append(waiting.popleft().result)
        while waiting:
            results.append(waiting.popleft().result)
    finally:
        for stream in waiting:
            stream.close()
    return results


def _requested_n_ctx(info: GGUFInfo, n_ctx: int | Literal["auto"]) -> int:
    """The window asked for; for "auto", the most that it will be."""
    trained = info.n_ctx_train or _DEFAULT_N_CTX
    if n_ctx == "auto":
        return min(trained, _DEFAULT_N_CTX)
    if n_ctx not in range(1, trained + 1):
        raise ConfigurationError(
            f"`n_ctx` must be 'auto' or from 1 to {trained:,}, the window of {info.path.stem}, got {n_ctx!r}"
        )
    return n_ctx


def _fitting_n_ctx(info: GGUFInfo, n_ctx: int, n_batch: int) -> int:
    """The largest of `n_ctx`, its half, its quarter, ... whose cache and working space fit the memory that there is."""
    available = available_bytes()
    while n_ctx > _LEAST_N_CTX:
        estimate = estimate_memory(info, n_ctx=n_ctx, n_batch=n_batch)
        if estimate.cache + estimate.compute <= _MEMORY_SHARE * available:
            break
        n_ctx = max(_LEAST_N_CTX, n_ctx // 2)
        logger.warning("%s gets a window of %d tokens: memory is short", info.path.name, n_ctx)
    return n_ctx


def _choose(grammar: Grammar, sampler: Sampler, logits: NDArray[np.float32]) -> int:
    token = grammar.pick(logits, sampler)
    grammar.accept(token)
    return token


def _check_timeout(timeout_seconds: float | None) -> None:
    if timeout_seconds is not None and timeout_seconds <= 0:
        raise ConfigurationError(f"`timeout_seconds` must be greater than 0, got {timeout_seconds!r}")


def _checked(messages: Sequence[Message]) -> Sequence[Message]:
    if not messages or not all(isinstance(message, Message) for message in messages):
        raise ConfigurationError(f"a prompt is a string or a non-empty sequence of Message, got {messages!r:.200}")
    return messages
