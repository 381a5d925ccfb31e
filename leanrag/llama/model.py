"""`LlamaCppModel`: a GGUF file that answers prompts."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from leanrag.checks import check_choice, check_seconds, check_whole
from leanrag.errors import ConfigurationError, ModelLoadError
from leanrag.generation import PendingStream, check_messages, find_open_thought, gather_results, part_generated
from leanrag.llama.adapters import AdapterSource, find_adapters, name_with_adapters
from leanrag.llama.chat import ChatTemplate, encode_chat, encode_text, locate_tokens
from leanrag.llama.context import MAX_PARALLEL
from leanrag.llama.engine import Engine
from leanrag.llama.files import GGUFInfo, check_gguf
from leanrag.llama.grammar import make_grammar
from leanrag.llama.options import LlamaBase, LlamaOptions
from leanrag.llama.placement import (
    GpuOptions,
    MemoryEstimate,
    Placement,
    available_bytes,
    check_gpu_options,
    choices_file,
    estimate_memory,
    gpu_devices,
)
from leanrag.llama.requests import Completion, Request
from leanrag.llama.sampling import Chooser, Sampler, SamplingOptions
from leanrag.llama.settings import ComputeOptions, EngineSettings
from leanrag.llama.templates import REMEMBERED_PROMPTS
from leanrag.llama.thinking import ThoughtBudget
from leanrag.llama.trial import try_file
from leanrag.pending import StopMatcher, ThoughtFilter
from leanrag.protocols import GenerateOptions
from leanrag.text import THOUGHT_TAGS
from leanrag.threads import Priority
from leanrag.types import CancelToken, Generation, Message, Prompt, Scores, Usage

__all__ = ["LlamaCppModel"]

logger = logging.getLogger(__name__)

_DEFAULT_N_CTX = 4096
_LEAST_N_CTX = 512
_DEFAULT_N_BATCH = 512
_MEMORY_SHARE = 0.8  # of what is available, for cache and working space


class LlamaCppModel(LlamaBase):
    """A GGUF model run by llama.cpp inside this process. Any thread may call it; requests are computed together.

    Args:
        path: The GGUF file.
        adapters: LoRA adapters of this model: GGUF files, or pairs of a file and a scale. Models of the same file share its
            weights, also if their adapters differ.
        name: Value of `Answer.model`; by default the name of the file without its suffix, and the names of the adapters.
        n_ctx: Window in tokens. Requests that are computed at the same time share it. "auto" is the window that the model was
            trained with, at most 4,096, and less if there is little memory. llama.cpp rounds it up to a multiple of 256; the
            attribute `n_ctx` has the allocated number.
        threads: Threads to compute with; by default the physical cores that this process may use, and fewer while other
            programs compute.
        priority: "background" gives way to other programs: half of the cores, and on Linux threads of niceness 10.
        gpu: Which part of the model goes on GPUs.
        compute: How the model computes.
        chat_template: Jinja source that replaces the chat template of the file.
        template_variables: Variables of the chat template, such as `{"reasoning_effort": "high"}`; JSON values.
        thinking: Whether a reasoning model thinks before it answers; None leaves it to the chat template.
        today: The day that a chat template may write into the prompt; None for the day of the request.
        max_queue: Requests that may wait; a further request raises `QueueFullError`.
        parallel: Most requests that are computed at the same time, at most 240; they share the window.
        cache_bytes: Most bytes of computed prompts that are kept in memory. A prompt with the same beginning is then not computed
            again. 0 keeps no prompts.
        cache_dir: Folder in which computed prompts are kept after a restart, also at most `cache_bytes`; None uses no folder.
            Anyone who can write to this folder can change answers.
        no_repeats: End a generation when it writes a line or sentence of at least 12 characters for the second time; its
            `finish_reason` is then "repetition". Small models can repeat themselves without end.
        trial: Whether to load the file in a child process first, because a bad file can end the process. None does this once for
            a file of unknown origin: neither a model that was pulled, nor a file that passed before. It takes a second or more.
        keep_alive: Seconds without a request after which the weights and the window are freed; the next request loads them
            again. Counting and rendering work without them, and computed prompts are kept within `cache_bytes`. 0 frees them
            as soon as no request is computed; None never frees them.
        draft: GGUF file of a smaller model with the same vocabulary, which drafts tokens of the answers. This model checks them and
            keeps those that it would choose itself. llama.cpp rounds several rows of a batch otherwise than one row for some types
            of weights (Q4_K), so greedy answers of such files can differ from those without drafts. Drafts are made only while
            they save time, which is measured.
        mlock: Whether the system must keep the weights in memory, so that an answer never waits for the disk. The limit of the
            system for locked memory (`ulimit -l`) must allow it; otherwise llama.cpp logs a warning and does without.

    Raises:
        ModelLoadError: The file is missing, truncated or malformed, or llama.cpp refused it.
        ConfigurationError: An argument cannot work, or the layers do not fit; the message then has the estimate.

    Note:
        CUDA ends the process if a GPU runs out of memory during a computation; llama.cpp cannot turn this into an error.
        `GpuOptions` therefore leaves some memory free. If other programs use the same GPU, use an `IsolatedModel`: then only its
        child process ends, and the request fails with an error.

    Example:
        >>> with LlamaCppModel("model.gguf") as model:  # doctest: +SKIP
        ...     model.generate([Message("user", "Hello")], max_tokens=8).text
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        adapters: Sequence[AdapterSource] = (),
        name: str | None = None,
        n_ctx: int | Literal["auto"] = "auto",
        threads: int | None = None,
        priority: Priority = "normal",
        gpu: GpuOptions | None = None,
        compute: ComputeOptions | None = None,
        chat_template: str | None = None,
        template_variables: Mapping[str, object] | None = None,
        thinking: bool | None = None,
        today: datetime.date | None = None,
        max_queue: int = 64,
        parallel: int = 8,
        cache_bytes: int = 256 * 2**20,
        cache_dir: str | os.PathLike[str] | None = None,
        no_repeats: bool = False,
        trial: bool | None = None,
        keep_alive: float | None = None,
        mlock: bool = False,
        draft: str | os.PathLike[str] | None = None,
    ) -> None:
        self.info: GGUFInfo = check_gguf(path)
        self.path = self.info.path
        _check_generates(self.info)
        self.adapters = find_adapters(adapters, self.info)
        self.name = name or name_with_adapters(self.path.stem, self.adapters)
        allocated = _requested_n_ctx(self.info, n_ctx)
        check_whole(1, optional=True, threads=threads)
        check_choice(get_args(Priority), priority=priority)
        check_whole(1, max_queue=max_queue)
        check_whole(1, MAX_PARALLEL, parallel=parallel)
        if keep_alive is not None and not 0 <= keep_alive <= threading.TIMEOUT_MAX:
            raise ConfigurationError(
                f"`keep_alive` must be at least 0 seconds, or None to keep the model loaded, got {keep_alive!r}"
            )
        gpu, compute = gpu or GpuOptions(), compute or ComputeOptions()
        check_gpu_options(gpu, gpu_devices())
        self._no_repeats = no_repeats
        if n_ctx == "auto":
            allocated = _fitting_n_ctx(self.info, allocated, compute.n_batch or _DEFAULT_N_BATCH)
        try_file(self.info, "model", trial=trial, n_ctx=allocated)
        if draft is not None:
            draft_info = check_gguf(draft)
            _check_generates(draft_info)
            try_file(draft_info, "model", trial=trial, n_ctx=min(allocated, draft_info.n_ctx_train or allocated))
        self._engine = Engine(
            self.path,
            EngineSettings(
                n_ctx=allocated,
                threads=threads,
                priority=priority,
                gpu=gpu,
                compute=compute,
                max_queue=max_queue,
                parallel=parallel,
                cache_bytes=cache_bytes,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                keep_alive=keep_alive,
                choices=choices_file(),
                adapters=self.adapters,
                mlock=mlock,
                draft=None if draft is None else draft_info.path,
            ),
        )
        self._finalizer = weakref.finalize(self, self._engine.stop)
        self.n_ctx = self._engine.n_ctx
        self.n_params = self.info.n_params
        vocabulary = self._engine.vocabulary
        source = chat_template or self.info.chat_template
        bos, eos = vocabulary.text(vocabulary.bos), vocabulary.text(vocabulary.eos)
        self._template: ChatTemplate | None = None
        try:
            if source:
                self._template = ChatTemplate(
                    source,
                    bos=bos,
                    eos=eos,
                    variables=template_variables,
                    thinking=thinking,
                    today=today,
                )
        except ConfigurationError:
            self.close()
            raise
        self.is_chat = self._template is not None

    def __repr__(self) -> str:
        return f"LlamaCppModel({self.name!r}, n_ctx={self.n_ctx})"

    def close(self) -> None:
        """Stop all requests and free the model; may be called twice."""
        self._finalizer.detach()
        self._engine.close()

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory; False after `keep_alive` seconds without a request, and after `close`."""
        return self._engine.is_loaded

    @property
    def placement(self) -> Placement:
        """Which layers are on which GPU, how much memory they use there, and why."""
        return self._engine.placement

    @staticmethod
    def estimate(
        path: str | os.PathLike[str], *, n_ctx: int | Literal["auto"] = "auto", n_batch: int = 512
    ) -> MemoryEstimate:
        """Return an estimate of the memory that a model needs. Nothing is loaded.

        Args:
            path: The GGUF file.
            n_ctx: The window; "auto" depends only on the model, not on the free memory.
            n_batch: As in `ComputeOptions`.

        Raises:
            ModelLoadError: The file is missing, truncated or malformed.
        """
        info = check_gguf(Path(path))
        n_ctx = _requested_n_ctx(info, n_ctx) if n_ctx == "auto" else n_ctx
        return estimate_memory(info, n_ctx=n_ctx, n_batch=n_batch)

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of plain `text`, without BOS and template."""
        self._engine.check_usable()
        return len(encode_text(text, self._engine.vocabulary))

    def tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the tokens of plain `text`, without BOS and template, each with the offset of the character in which it begins.

        A space may belong to a token: "a b" may have the tokens "a" and " b", which begin at 0 and 1.

        Raises:
            ConfigurationError: The tokenizer removes or replaces characters.
        """
        self._engine.check_usable()
        vocabulary = self._engine.vocabulary
        tokens = encode_text(text, vocabulary)
        return list(zip(tokens, locate_tokens(text, tokens, vocabulary), strict=True))

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the rendered prompt: exactly `usage.prompt_tokens` of a generation from it."""
        return len(self.encode(prompt))

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the tokens of the rendered prompt, as the model reads them.

        Raises:
            ConfigurationError: The prompt is empty, or has messages and the model has no chat template.
        """
        self._engine.check_usable()
        today = datetime.date.today()  # which a template may write
        if isinstance(prompt, str):
            tokens = self._encode_once(prompt, today)
        else:
            self._require_template()
            tokens = self._encode_once(tuple(check_messages(prompt)), today)
        if not tokens:
            raise ConfigurationError("the prompt is empty. It must have at least one token")
        return self._with_bos(list(tokens))

    @functools.cached_property
    def _encode_once(self) -> Callable[[str | tuple[Message, ...], datetime.date], tuple[int, ...]]:
        """Tokenizes prompts, and remembers the tokens of the last ones."""
        # Without `self`, which would outlive its last user.
        template, vocabulary = self._template, self._engine.vocabulary

        def encode(prompt: str | tuple[Message, ...], _: datetime.date) -> tuple[int, ...]:
            if isinstance(prompt, str):
                return tuple(encode_text(prompt, vocabulary))
            assert template is not None
            return tuple(encode_chat(prompt, template, vocabulary))

        return functools.lru_cache(maxsize=REMEMBERED_PROMPTS)(encode)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; bytes that are no complete character are replaced."""
        return b"".join(map(self._engine.vocabulary.piece, tokens)).decode("utf-8", "replace")

    @property
    def end_token(self) -> int:
        """The token that ends a generation; -1 if the model has none."""
        return self._engine.vocabulary.eos

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as text, as the model reads it; without BOS, unless the template writes it."""
        if isinstance(prompt, str):
            return prompt
        return self._require_template().render(check_messages(prompt))

    def stream(self, prompt: Prompt, options: GenerateOptions) -> PendingStream[Completion, Generation]:
        """Return the completion of `prompt`, piece by piece: iterate over it, then read `result`.

        If you leave the loop early, the computation stops. `options` may be `LlamaOptions`.
        """
        options = LlamaOptions.of(options)
        sampler = Sampler(
            SamplingOptions(options.temperature, options.top_k, options.top_p, options.min_p, options.seed)
        )
        tokens = self.encode(prompt)
        grammar = make_grammar(self._engine.vocabulary, schema=options.schema, gbnf=options.grammar)
        closing = find_open_thought(prompt) if isinstance(prompt, str) else self._open_thought
        thinks = closing is not None
        choose_answer = None if grammar is None else grammar.chooser(sampler)
        choose: Chooser = choose_answer or sampler
        if thinks or (grammar is None and self._may_think):
            choose = ThoughtBudget(sampler, self._engine.vocabulary, options, closing, choose_answer)
        request = Request(
            tokens,
            max_tokens=options.reserved_tokens if isinstance(choose, ThoughtBudget) else options.max_tokens,
            choose=choose,
            match_stop=StopMatcher(options.stop, no_repeats=self._no_repeats and grammar is None),
            timeout_seconds=options.timeout_seconds,
            on_end=None if grammar is None else grammar.close,
        )
        self._submit(request, options.cancel)
        is_verbatim = grammar is not None  # in an answer with a grammar, tags are part of the text
        if is_verbatim and not thinks:
            return PendingStream(request, functools.partial(self._generation, len(tokens), sampler.seed), self)

        def finish(completion: Completion) -> Generation:
            parted = part_generated(completion.text, begins_in_thought=thinks, is_verbatim=is_verbatim)
            return dataclasses.replace(
                self._generation(len(tokens), sampler.seed, completion),
                text=parted.text,
                thoughts=parted.thoughts,
                thought_tokens=self._count_beginning(completion.token_ids, completion.text[: parted.start]),
            )

        thoughts = ThoughtFilter(begins_in_thought=thinks, is_verbatim=is_verbatim)
        return PendingStream(request, finish, self, thoughts=thoughts)

    @functools.cached_property
    def _open_thought(self) -> str | None:
        """The closing tag of the thought that the chat template opens at the end of a prompt; None if it opens none."""
        return find_open_thought(self._require_template().render([Message("user", "?")]))

    @functools.cached_property
    def _may_think(self) -> bool:
        """Whether the chat template or the vocabulary knows tags of thoughts."""
        openings = [opening for opening, _ in THOUGHT_TAGS]
        is_control_text = self._engine.vocabulary.is_control_text
        return (self._template is not None and self._template.knows_thoughts) or any(map(is_control_text, openings))

    def _count_beginning(self, tokens: Sequence[int], text: str) -> int:
        """Return how many of `tokens`, which begin with the tokens of `text`, end inside `text`."""
        ends = itertools.accumulate(len(self._engine.vocabulary.piece(token)) for token in tokens)
        size = len(text.encode("utf-8", "replace"))
        return sum(1 for end in ends if end <= size)

    def score_many(
        self,
        pairs: Iterable[tuple[Prompt | None, str | Sequence[int]]],
        *,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Scores]:
        """Return the scores of each `(condition, text)`, in order. A common beginning of conditions is computed once."""
        check_seconds(optional=True, timeout_seconds=timeout_seconds)
        return gather_results(lambda pair: self._submit_score(*pair, timeout_seconds, cancel), pairs)

    def _submit(self, request: Request, cancel: CancelToken | None) -> None:
        self._engine.submit(request)
        if cancel is not None:
            cancel.on_cancel(request.cancel)

    def _generation(self, prompt_tokens: int, seed: int | None, completion: Completion) -> Generation:
        return Generation(
            text=completion.text,
            model=self.name,
            finish_reason=completion.finish_reason,
            usage=Usage(prompt_tokens, len(completion.token_ids), completion.cached_tokens),
            token_ids=completion.token_ids,
            logprobs=tuple(score.logprob for score in completion.scores),
            margins=tuple(score.margin for score in completion.scores),
            entropies=tuple(score.entropy for score in completion.scores),
            seed=seed,
            prefill_seconds=completion.prefill_seconds,
            decode_seconds=completion.decode_seconds,
        )

    def _submit_score(
        self,
        condition: Prompt | None,
        text: str | Sequence[int],
        timeout_seconds: float | None,
        cancel: CancelToken | None,
    ) -> PendingStream[Completion, Scores] | _Known:
        vocabulary = self._engine.vocabulary
        before = self._with_bos([]) if condition is None else self.encode(condition)
        tokens = encode_text(text, vocabulary) if isinstance(text, str) else [int(token) for token in text]
        if not all(0 <= token < vocabulary.n_tokens for token in tokens):
            raise ConfigurationError(
                f"each token must be in [0, {vocabulary.n_tokens:,}), the vocabulary of {self.name}, got {tokens!r:.80}"
            )
        if len(before) + len(tokens) < 2:
            return _Known(Scores(tuple(tokens), (None,) * len(tokens)))
        unscored = () if before else (None,)
        request = Request(
            [*before, *tokens],
            max_tokens=0,
            score_from=len(before) + len(unscored),
            timeout_seconds=timeout_seconds,
        )
        self._submit(request, cancel)
        return PendingStream(
            request, lambda done: Scores(tuple(tokens), (*unscored, *done.prompt_logprobs)), owner=self
        )

    def _with_bos(self, tokens: list[int]) -> list[int]:
        vocabulary = self._engine.vocabulary
        if vocabulary.adds_bos and tokens[:1] != [vocabulary.bos]:
            return [vocabulary.bos, *tokens]
        return tokens

    def _require_template(self) -> ChatTemplate:
        if self._template is None:
            raise ConfigurationError(
                f"{self.name} has no chat template, so it cannot read messages. Pass a string as the prompt, or pass "
                "`chat_template=`"
            )
        return self._template


@dataclass(frozen=True, slots=True)
class _Known:
    """Scores that need no computation."""

    result: Scores

    def close(self) -> None:
        pass


def _check_generates(info: GGUFInfo) -> None:
    """Refuse models whose tokens depend on later tokens, such as embedding models: they cannot write a text token by token."""
    if info.metadata.get(f"{info.architecture}.attention.causal") is False:
        raise ModelLoadError(
            f"{str(info.path)!r} cannot write text: its architecture {info.architecture!r} reads a text as a whole, as embedding "
            "models do. Use it as an embedder, or load another model",
            path=info.path,
            model=info.path.name,
        )


def _requested_n_ctx(info: GGUFInfo, n_ctx: int | Literal["auto"]) -> int:
    """Return the requested window; for "auto", the largest window that it can become."""
    trained = info.n_ctx_train or _DEFAULT_N_CTX
    if n_ctx == "auto":
        return min(trained, _DEFAULT_N_CTX)
    if n_ctx not in range(1, trained + 1):
        raise ConfigurationError(
            f"`n_ctx` must be 'auto' or from 1 to {trained:,}, the window of {info.path.stem}, got {n_ctx!r}"
        )
    return n_ctx


def _fitting_n_ctx(info: GGUFInfo, n_ctx: int, n_batch: int) -> int:
    """Return the largest of `n_ctx`, its half, its quarter, ... whose cache and working space fit into the available memory."""
    available = available_bytes()
    while n_ctx > _LEAST_N_CTX:
        estimate = estimate_memory(info, n_ctx=n_ctx, n_batch=n_batch)
        if estimate.cache + estimate.compute <= _MEMORY_SHARE * available:
            break
        n_ctx = max(_LEAST_N_CTX, n_ctx // 2)
        logger.warning("%s gets a window of %d tokens, because there is little memory", info.path.name, n_ctx)
    return n_ctx
