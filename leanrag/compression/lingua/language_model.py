"""LLMLingua and LongLLMLingua: the package on a causal language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanrag._optional import require
from leanrag.compression.lingua.driver import WHY, Encoded, LinguaRequest, PackageBase, Verdict, encode
from leanrag.errors import CompressionError

__all__ = ["JOINT", "PackageScorer", "TokenValues", "language_model_driver", "package_class"]

JOINT = "\n\n"  # the package puts it between documents


def _groups(lengths: NDArray[np.int64], room: int) -> Iterator[tuple[int, int]]:
    """Yield `(first, last + 1)` of groups of neighbours whose lengths add up to at most `room`."""
    first = taken = 0
    for at, length in enumerate(lengths.tolist()):
        if taken + length > room and at > first:
            yield first, at
            first, taken = at, 0
        taken += length
    if len(lengths) > first:
        yield first, len(lengths)


class _Tokenizer:
    """A tokenizer that reads control tokens as plain text, and can return indices instead of token ids for a text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.numbered: Any = None  # `(1, n)`: the indices that the token filter gets instead of its text

    def __call__(self, text: str, return_tensors: str | None = None, *, add_special_tokens: bool = True) -> Any:
        if self.numbered is not None and return_tensors and not add_special_tokens:
            return {"input_ids": self.numbered, "attention_mask": self.numbered.new_ones(self.numbered.shape)}
        return self.tokenizer(
            text,
            return_tensors=return_tensors,
            add_special_tokens=add_special_tokens,
            split_special_tokens=True,
            verbose=False,
        )

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids))

    def batch_decode(self, _ids: Any) -> list[str]:
        """Return an empty text: the kept tokens are recorded, and nobody reads the text."""
        return [""]


class _PairsOfStates:
    """A causal language model whose states are pairs of tensors, a pair for each layer."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.cache = require("transformers", extra="lingua", why=WHY).DynamicCache

    def __call__(self, input_ids: Any, *, attention_mask: Any, past_key_values: Any, use_cache: bool) -> Any:
        past = self.cache([(keys, values) for keys, values in past_key_values or ()])
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask, past_key_values=past, use_cache=use_cache
        )
        states = [[layer.keys, layer.values] for layer in output.past_key_values.layers]
        return SimpleNamespace(logits=output.logits.float(), past_key_values=states)


class _NoCounts:
    """An encoding without tokens: the package counts with it for a report that nobody reads."""

    def encode(self, _text: str) -> range:
        return range(0)


@dataclass(slots=True)
class TokenValues:
    """What the token filter of the package makes of each token of some texts.

    Attributes:
        ids: Token ids by index, for the text that the token filter reads; a tensor.
        origin: Index in `values` by index, -1 for tokens between and before the texts.
        protected: bool `(n,)`: tokens that always stay.
        values: float64 `(n,)`: value of the token minus the threshold.
    """

    ids: Any
    origin: NDArray[np.int64]
    protected: NDArray[np.bool_]
    values: NDArray[np.float64]


class PackageScorer(PackageBase):
    """What the package computes with a causal language model, on indices of tokens instead of token ids."""

    def __init__(self, tokenizer: Any, model: Any, *, device: str, window: int) -> None:
        self.torch = require("torch", extra="lingua", why=WHY)
        self.tokenizer = _Tokenizer(tokenizer)
        self.model = _PairsOfStates(model)
        self.device = device
        self.max_position_embeddings = window
        self.model_name = ""
        self.use_llmlingua2 = False
        self.retrieval_model = self.retrieval_model_name = None
        self.open_api_config: dict[str, str] = {}
        self.cache_bos_num, self.prefix_bos_num = 10, 100
        self.oai_tokenizer: Any = _NoCounts()
        self.context_idxs = []
        self._filtered: TokenValues
        self._ranks: dict[tuple[str, str, str], Any] = {}
        self._first_passes: dict[bytes, Any] = {}

    def forget(self) -> None:
        """Drop the ranks and first passes of the last texts."""
        self._ranks.clear()
        self._first_passes.clear()

    def get_condition_ppl(
        self, text: str, question: str, condition_in_question: str = "none", granularity: str = "sentence"
    ) -> Any:
        """Return the value of a document, and remember it."""
        key = text, question, condition_in_question
        if key not in self._ranks and not self.tokenizer(text)["input_ids"]:
            self._ranks[key] = self.torch.zeros(())  # an empty text has no perplexity
        if key not in self._ranks:
            value = super().get_condition_ppl(text, question, condition_in_question, granularity)
            if not value.isfinite():
                if self.tokenizer(text)["input_ids"][2:]:
                    raise CompressionError(
                        f"the scorer's perplexity of a document is {value.item()!r}, so its weights are damaged, or their type has"
                        " too few bits on this device. Use another model folder or device"
                    )
                value = value.new_zeros(())  # a single token has no perplexity
            self._ranks[key] = value
        return self._ranks[key]

    def get_ppl(
        self, text: str, granularity: str = "sentence", input_ids: Any = None, *args: Any, **options: Any
    ) -> Any:
        """Turn indices into token ids. Remember the first pass over a text, because the package does not keep its states."""
        if input_ids is None:
            return super().get_ppl(text, granularity, **options)
        ids = self._filtered.ids[input_ids]
        if options.get("end") is not None or options.get("past_key_values") is not None:
            return super().get_ppl(text, granularity, ids, *args, **options)
        key = ids.cpu().numpy().tobytes()
        if key not in self._first_passes:
            self._first_passes[key] = super().get_ppl(text, granularity, ids, *args, **options)[0]
        return self._first_passes[key].clone(), None

    def get_compressed_input(
        self,
        loss: Any,
        input_ids: Any,
        attention_mask: Any,
        end: int = 200,
        iterative_size: int = 200,
        threshold: float = 0.5,
        **options: Any,
    ) -> Any:
        """Keep the protected tokens, and record the value of each other token."""
        filtered, start = self._filtered, int(options["start"])
        numbers = input_ids[0]
        origin = filtered.origin[numbers.cpu().numpy()]
        values = loss
        if options["self_loss"] is not None:  # contrastive: how much the question raises the probability of a token
            contrast = options["self_loss"][: loss[start:].shape[0]] - loss[start:]
            values = self.torch.cat([loss[:start], contrast])
        first = max(0, int(end) - iterative_size)
        worth = values[first:].double().cpu().numpy()
        worth = worth - threshold if np.isfinite(threshold) else worth - worth.min(initial=0.0) + 1e-6
        if not np.isfinite(worth).all():
            raise CompressionError(
                "the scorer's log-probabilities are not finite, so its weights are damaged. Use another model folder"
            )
        indices = origin[first : first + len(worth)]
        filtered.values[indices[indices >= 0]] = worth[: len(indices)][indices >= 0]
        flags = np.where(origin >= 0, filtered.protected[origin], False)
        options.update(keep_flag=self.torch.tensor(flags.astype(np.int64), device=self.device), split_token_id=-1)
        result = list(
            super().get_compressed_input(
                loss, input_ids, attention_mask, end, iterative_size=iterative_size, threshold=threshold, **options
            )
        )
        result[2] = None  # the flags are computed again for each call
        return tuple(result)


@dataclass(slots=True)
class _Reading:
    """What the overridden methods record while the package runs."""

    encoded: Encoded
    protected: NDArray[np.bool_]
    used: list[int]
    ranking: list[int]
    values: NDArray[np.float64]
    kept: NDArray[np.bool_]


class _LanguageModelDriver(PackageScorer):
    """LLMLingua and LongLLMLingua."""

    def __init__(self, tokenizer: Any, model: Any, *, device: str, window: int) -> None:
        super().__init__(tokenizer, model, device=device, window=window)
        joint = encode(tokenizer, [JOINT]).ids.tolist()
        self._joint = joint[-2:]  # the package expects two tokens
        self._reading: _Reading

    def judge(
        self,
        request: LinguaRequest,
        target: float,
    ) -> Verdict:
        """Run the package once, with a target of `target` tokens of the scorer."""
        encoded, options = request.encoded, request.options
        number, count = len(encoded.texts), len(encoded.ids)
        self._reading = _Reading(
            encoded,
            request.protected,
            list(range(number)),
            list(range(number)),
            np.zeros(count),
            np.zeros(count, np.bool_),
        )
        self.tokenizer.numbered = None
        rank = request.rank if request.question else "llmlingua"
        self.compress_prompt(
            list(encoded.texts),
            question=request.question if rank == "longllmlingua" else "",
            target_token=max(target, 1.0),
            iterative_size=options.stretch_tokens,
            force_context_ids=list(request.forced) or None,
            use_context_level_filter=options.document_filter,
            use_token_level_filter=options.token_filter,
            context_budget=f"+{options.extra_tokens}",
            condition_in_question=options.condition_in_question,
            reorder_context=options.reorder,
            dynamic_context_compression_ratio=options.dynamic_ratio,
            condition_compare=options.contrastive and rank == "longllmlingua",
            rank_method=rank,
            concate_question=False,
        )
        return self._verdict(options.token_filter)

    def _verdict(self, is_thinned: bool) -> Verdict:
        reading = self._reading
        judged = np.zeros(len(reading.values), np.bool_)
        for text in reading.used:
            judged[reading.encoded.tokens_of(text)] = True
        if not is_thinned:  # better documents first, and the beginning of a document before its end
            reading.kept |= judged
            for rank, text in enumerate(reading.ranking):
                span = reading.encoded.tokens_of(text)
                length = span.stop - span.start
                reading.values[span] = len(reading.ranking) - rank - np.arange(length) / (length + 1)
        return Verdict(judged, reading.kept & judged, reading.values)

    # Methods that the package calls

    def control_context_budget(self, *args: Any, **options: Any) -> Any:
        """Record which documents pass, and their order."""
        context, ratios, used = super().control_context_budget(*args, **options)
        self._reading.used = [int(text) for text in used]
        self._reading.ranking = [int(text) for text in self.context_idxs[-1]]
        self.context_idxs.clear()  # otherwise it grows with every call
        return context, ratios, used

    def get_prefix_length(self, prefix: str, _text: str) -> int:
        """Return the number of tokens of the question before the documents; the question is tokenised alone."""
        return len(self._prefix(prefix.removesuffix(JOINT)))

    def _prefix(self, prefix: str) -> list[int]:
        return [*self.tokenizer(prefix, add_special_tokens=False)["input_ids"], *self._joint]

    def iterative_compress_prompt(
        self,
        context: list[str],
        target_token: float,
        iterative_size: int = 200,
        start: int = 0,
        dynamic_ratio: Sequence[float] | None = None,
        condition_compare: bool = False,
        **_: Any,
    ) -> Any:
        """Run the token filter on as many documents at a time as fit into the window."""
        reading = self._reading
        prefix = self._prefix(context[0]) if start else []
        lengths = np.diff(reading.encoded.bounds)[reading.used] + 2  # the package counts two tokens between documents
        share = target_token / (float(lengths.sum()) + 1)  # the share of tokens to keep; tau in the package
        assert dynamic_ratio is not None
        for first, last in _groups(lengths, self.max_position_embeddings - len(prefix)):
            used = reading.used[first:last]
            count = self._number(prefix, used)
            if count > 1:
                stretches = max(1, round(count / iterative_size))
                compressed, _mask = super().iterative_compress_prompt(
                    [*context[: 1 if start else 0], *(reading.encoded.texts[text] for text in used)],
                    share * (float(lengths[first:last].sum()) + 1),
                    iterative_size=count // stretches,
                    start=start,
                    dynamic_ratio=list(dynamic_ratio[first:last]),
                    condition_compare=condition_compare,
                )
                kept = self._filtered.origin[compressed[0].cpu().numpy()]
            else:
                kept = self._filtered.origin[len(prefix) :]
            reading.kept[kept[kept >= 0]] = True
        self.tokenizer.numbered = None
        return [None], None

    def _number(self, prefix: list[int], used: Sequence[int]) -> int:
        """Give an index to each token that the filter reads; return how many are in documents or between them."""
        encoded = self._reading.encoded
        ids, origin = list(prefix), [-1] * len(prefix)
        for text in used:
            if len(ids) > len(prefix):
                ids += self._joint
                origin += [-1] * len(self._joint)
            span = encoded.tokens_of(text)
            ids += encoded.ids[span].tolist()
            origin += range(span.start, span.stop)
        self._filtered = TokenValues(
            self.torch.tensor(ids, device=self.device),
            np.array(origin, dtype=np.int64),
            self._reading.protected,
            self._reading.values,
        )
        self.tokenizer.numbered = self.torch.arange(len(ids), device=self.device)[None]
        return len(ids) - len(prefix)


def package_class(kind: type[PackageScorer]) -> Any:
    """Return the class that runs the package with the overridden methods of `kind`."""
    package = require("llmlingua", extra="lingua", why=WHY)
    return type(kind.__name__.lstrip("_"), (kind, package.PromptCompressor), {})


def language_model_driver(tokenizer: Any, model: Any, *, device: str, window: int) -> _LanguageModelDriver:
    """Return LLMLingua and LongLLMLingua on a causal language model that reads at most `window` tokens at a time."""
    return package_class(_LanguageModelDriver)(tokenizer, model, device=device, window=window)  # type: ignore[no-any-return]
