"""The llmlingua package, driven from outside: its algorithms as they are, what breaks around them taken away.

The package is a class that holds a tokenizer and a model. Here it is subclassed, never changed: the tokenizer and the model that it
is given are stand-ins that speak its dialect (release 0.2.2, written for transformers before 4.36) on one side and that of today's
transformers on the other, and the methods that come back with text are watched so that it is known which token of which text
survived. What that mends:

- Past key and value states: `DynamicCache` here, pairs of tensors there.
- Its constructor fetches an encoding, trusts code that comes with a model and seeds every generator of the process: not run.
- Tokens go through it as numbers of their own, so that each kept token is known by its place, not guessed from its text.
- Protected tokens: `keep_flag` of the token filter, a probability of 1 for LLMLingua-2.
- The last, incomplete stretch of the token filter, which it keeps whole (that is all of a text below 200 tokens), is avoided by
  choosing stretches of equal length.
- Text beyond the model's window comes in several parts, since its own way there loses count.
- Ranks of documents and the first pass over a text are kept for the next call on the same text.
- `[UNK]` and, with XLM-RoBERTa, `[CLS]` and `[SEP]` in LLMLingua-2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from leanrag._optional import require
from leanrag.errors import CompressionError
from leanrag.protocols import TokenCounter

__all__ = [
    "Encoded",
    "LinguaOptions",
    "LinguaRequest",
    "Verdict",
    "classifier_driver",
    "encode",
    "language_model_driver",
]

_WHY = "to compress with LLMLingua"
_JOINT = "\n\n"  # the package puts it between documents
_WORDS, _LABELS = "\x1e", "\x1f"  # between words, and between a word and its label, in what LLMLingua-2 reports
_CLS, _SEP, _PAD = 0, 1, 2
_SPECIAL = 3  # of them

Rank = Literal["llmlingua", "longllmlingua"]
Condition = Literal["none", "before", "after"]
Reorder = Literal["original", "sort", "two_stage"]

if TYPE_CHECKING:

    class _PromptCompressor:
        """What is used of `llmlingua.PromptCompressor`."""

        context_idxs: list[Any]

        def compress_prompt(self, *args: Any, **options: Any) -> Any: ...
        def compress_prompt_llmlingua2(self, *args: Any, **options: Any) -> Any: ...
        def control_context_budget(self, *args: Any, **options: Any) -> Any: ...
        def get_compressed_input(self, *args: Any, **options: Any) -> Any: ...
        def get_condition_ppl(self, *args: Any, **options: Any) -> Any: ...
        def get_ppl(self, *args: Any, **options: Any) -> Any: ...
        def iterative_compress_prompt(self, *args: Any, **options: Any) -> Any: ...

else:
    _PromptCompressor = object


@dataclass(frozen=True, slots=True)
class LinguaOptions:
    """Settings of the package, by our names; `LLMLinguaCompressor` describes them."""

    contrastive: bool
    condition_in_question: Condition
    reorder: Reorder
    dynamic_ratio: float
    extra_tokens: int
    stretch_tokens: int
    document_filter: bool
    token_filter: bool


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts as the scorer's tokens, one after another.

    Attributes:
        texts: What was encoded; as long as the original, character for character.
        tokens: The tokens' own spelling.
        ids: int64 `(n,)`.
        spans: int64 `(n, 2)`: first character of the token in its text, and one past the last.
        bounds: int64 `(texts + 1,)`: the tokens of text `i` are `bounds[i]:bounds[i + 1]`.
    """

    texts: tuple[str, ...]
    tokens: tuple[str, ...]
    ids: NDArray[np.int64]
    spans: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def place(self, text: int) -> slice:
        """Return where the tokens of a text are."""
        return slice(int(self.bounds[text]), int(self.bounds[text + 1]))


@dataclass(frozen=True, slots=True)
class LinguaRequest:
    """What the package is asked, but for how much is to stay.

    Attributes:
        encoded: The documents.
        protected: bool `(n,)`, by token: what may not go from a document that stays.
        forced: Documents that stay.
        question: What the reader will be asked, "" for nothing; only `rank` "longllmlingua" reads it.
        rank: How LLMLingua ranks documents.
        options: The rest.
        count_tokens: Of the reader; what LLMLingua-2 weighs words with.
    """

    encoded: Encoded
    protected: NDArray[np.bool_]
    forced: Sequence[int]
    question: str
    rank: Rank
    options: LinguaOptions
    count_tokens: TokenCounter


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the package thinks of each token.

    Attributes:
        judged: bool `(n,)`; False in documents that its filter left out.
        kept: bool `(n,)`; what it keeps, protected tokens among it.
        values: float64 `(n,)`: what it compares with a threshold, less the threshold; above 0 is worth keeping.
    """

    judged: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    values: NDArray[np.float64]


def clean_text(text: str) -> str:
    """Return `text` with a replacement character for each surrogate, which no tokenizer takes."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def encode(tokenizer: Any, texts: Sequence[str]) -> Encoded:
    """Return the tokens of `texts` and their places; control tokens that a text spells are plain text."""
    clean = tuple(clean_text(text) for text in texts)
    tokens: list[str] = []
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    bounds = [0]
    for text in clean:
        encoding = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
        )
        ids += encoding["input_ids"]
        tokens += tokenizer.convert_ids_to_tokens(encoding["input_ids"])
        spans += encoding["offset_mapping"]
        bounds.append(len(ids))
    return Encoded(
        clean,
        tuple(tokens),
        np.array(ids, dtype=np.int64),
        np.array(spans, dtype=np.int64).reshape(-1, 2),
        np.array(bounds, dtype=np.int64),
    )


class _Tokenizer:
    """A tokenizer that takes control tokens for plain text, and has numbers instead of tokens for one text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.numbered: Any = None  # `(1, n)`, what the token filter gets to see of its text

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
        """Which tokens are left is known; nobody reads what they spell."""
        return [""]


class _PairsOfStates:
    """A causal language model that takes and returns its states as pairs of tensors, one pair a layer."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.cache = require("transformers", extra="lingua", why=_WHY).DynamicCache

    def __call__(self, input_ids: Any, *, attention_mask: Any, past_key_values: Any, use_cache: bool) -> Any:
        past = self.cache([(keys, values) for keys, values in past_key_values or ()])
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask, past_key_values=past, use_cache=use_cache
        )
        states = [[layer.keys, layer.values] for layer in output.past_key_values.layers]
        return SimpleNamespace(logits=output.logits.float(), past_key_values=states)


class _NoCounts:
    """The package counts with an encoding of its own for a report that nobody reads."""

    def encode(self, _text: str) -> range:
        return range(0)


@dataclass(slots=True)
class _Reading:
    """What the watched methods write down while the package runs."""

    encoded: Encoded
    protected: NDArray[np.bool_]
    used: list[int]
    ranking: list[int]
    values: NDArray[np.float64]
    kept: NDArray[np.bool_]


class _LanguageModelDriver(_PromptCompressor):
    """LLMLingua and LongLLMLingua."""

    def __init__(self, tokenizer: Any, model: Any, *, device: str, window: int) -> None:
        self.torch = require("torch", extra="lingua", why=_WHY)
        self.tokenizer = _Tokenizer(tokenizer)
        self.model = _PairsOfStates(model)
        self.device = device
        self.max_position_embeddings = window
        self.model_name = ""
        self.use_llmlingua2 = False
        self.retrieval_model = self.retrieval_model_name = None
        self.open_api_config: dict[str, str] = {}
        self.cache_bos_num, self.prefix_bos_num = 10, 100
        self.oai_tokenizer = _NoCounts()
        self.context_idxs = []
        joint = encode(tokenizer, [_JOINT]).ids.tolist()
        self._joint = joint[-2:]  # the package reckons with two
        self._reading: _Reading
        self._ids: Any = None  # tokens by number, in the text that the token filter is at
        self._origin: NDArray[np.int64]  # places in `Encoded` by number, -1 for what is between and before documents
        self._ranks: dict[tuple[str, str, str], Any] = {}
        self._first_passes: dict[bytes, Any] = {}

    def forget(self) -> None:
        """Drop what was remembered of the last texts."""
        self._ranks.clear()
        self._first_passes.clear()

    def judge(
        self,
        request: LinguaRequest,
        target: float,
    ) -> Verdict:
        """Run the package once, for `target` of the scorer's tokens."""
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
            judged[reading.encoded.place(text)] = True
        if not is_thinned:  # a better document first, and of one its beginning
            reading.kept |= judged
            for rank, text in enumerate(reading.ranking):
                place = reading.encoded.place(text)
                length = place.stop - place.start
                reading.values[place] = len(reading.ranking) - rank - np.arange(length) / (length + 1)
        return Verdict(judged, reading.kept & judged, reading.values)

    # What the package calls of itself.

    def control_context_budget(self, *args: Any, **options: Any) -> Any:
        """Write down which documents pass, in which order."""
        context, ratios, used = super().control_context_budget(*args, **options)
        self._reading.used = [int(text) for text in used]
        self._reading.ranking = [int(text) for text in self.context_idxs[-1]]
        self.context_idxs.clear()  # it would grow with every call
        return context, ratios, used

    def get_condition_ppl(
        self, text: str, question: str, condition_in_question: str = "none", granularity: str = "sentence"
    ) -> Any:
        """Remember what a document was worth."""
        key = text, question, condition_in_question
        if key not in self._ranks:
            value = super().get_condition_ppl(text, question, condition_in_question, granularity)
            if not value.isfinite():
                if self.tokenizer(text)["input_ids"][2:]:
                    raise CompressionError(
                        f"the scorer's perplexity of a document is {value.item()!r}: its weights are damaged, or its type is too"
                        " narrow for this device"
                    )
                value = value.new_zeros(())  # one token has nothing that could be surprised
            self._ranks[key] = value
        return self._ranks[key]

    def get_prefix_length(self, prefix: str, _text: str) -> int:
        """Return the tokens of the question in front of the documents; it is tokenised by itself."""
        return len(self._prefix(prefix.removesuffix(_JOINT)))

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
        """Run the token filter on as many documents at a time as the window holds."""
        reading = self._reading
        prefix = self._prefix(context[0]) if start else []
        lengths = (
            np.diff(reading.encoded.bounds)[reading.used] + 2
        )  # what stands between documents, as the package reckons
        share = target_token / (float(lengths.sum()) + 1)  # of the tokens, the package's tau
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
                left = self._origin[compressed[0].cpu().numpy()]
            else:
                left = self._origin[len(prefix) :]
            reading.kept[left[left >= 0]] = True
        self.tokenizer.numbered = None
        return [None], None

    def _number(self, prefix: list[int], used: Sequence[int]) -> int:
        """Number the tokens that the filter is to see; how many are in documents or between them."""
        encoded = self._reading.encoded
        ids, origin = list(prefix), [-1] * len(prefix)
        for text in used:
            if len(ids) > len(prefix):
                ids += self._joint
                origin += [-1] * len(self._joint)
            place = encoded.place(text)
            ids += encoded.ids[place].tolist()
            origin += range(place.start, place.stop)
        self._ids = self.torch.tensor(ids, device=self.device)
        self._origin = np.array(origin, dtype=np.int64)
        self.tokenizer.numbered = self.torch.arange(len(ids), device=self.device)[None]
        return len(ids) - len(prefix)

    def get_ppl(
        self, text: str, granularity: str = "sentence", input_ids: Any = None, *args: Any, **options: Any
    ) -> Any:
        """Turn numbers into tokens; remember the first pass over a text, whose states the package throws away."""
        if input_ids is None:
            return super().get_ppl(text, granularity, **options)
        ids = self._ids[input_ids]
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
        """Hold on to protected tokens, and write down what each of the others is worth."""
        reading, start = self._reading, int(options["start"])
        numbers = input_ids[0]
        origin = self._origin[numbers.cpu().numpy()]
        values = loss
        if options["self_loss"] is not None:  # contrast: how much the question tells of a token
            own = options["self_loss"][: loss[start:].shape[0]] - loss[start:]
            values = self.torch.cat([loss[:start], own])
        first = max(0, int(end) - iterative_size)
        worth = values[first:].double().cpu().numpy()
        worth = worth - threshold if np.isfinite(threshold) else worth - worth.min(initial=0.0) + 1e-6
        if not np.isfinite(worth).all():
            raise CompressionError("the scorer's log-probabilities are not finite: its weights are damaged")
        places = origin[first : first + len(worth)]
        reading.values[places[places >= 0]] = worth[: len(places)][places >= 0]
        flags = np.where(origin >= 0, reading.protected[origin], False)
        options.update(keep_flag=self.torch.tensor(flags.astype(np.int64), device=self.device), split_token_id=-1)
        result = list(
            super().get_compressed_input(
                loss, input_ids, attention_mask, end, iterative_size=iterative_size, threshold=threshold, **options
            )
        )
        result[2] = None  # flags are made anew each time
        return tuple(result)


def _groups(lengths: NDArray[np.int64], room: int) -> Iterator[tuple[int, int]]:
    """Yield `(first, last + 1)` of neighbours that together take at most `room`."""
    first = taken = 0
    for at, length in enumerate(lengths.tolist()):
        if taken + length > room and at > first:
            yield first, at
            first, taken = at, 0
        taken += length
    if len(lengths) > first:
        yield first, len(lengths)


class _PieceTokenizer:
    """The tokenizer that LLMLingua-2 gets: it knows texts by name, and tokens by number."""

    def __init__(self, start: str) -> None:
        self.start = start  # what begins a word; "" for WordPiece, which marks the other tokens
        self.encoded: Encoded
        self._name = ""

    def tokenize(self, name: str) -> list[str]:
        self._name = name
        place = self.encoded.place(int(name))
        tokens = [token.replace(_WORDS, " ").replace(_LABELS, " ") for token in self.encoded.tokens[place]]
        if self.start and tokens and not tokens[0].startswith(self.start):
            tokens[0] = self.start + tokens[0]  # a text never begins within a word
        return tokens

    def convert_tokens_to_string(self, _tokens: Sequence[str]) -> str:
        return self._name

    def convert_tokens_to_ids(self, tokens: Sequence[str]) -> list[int]:
        place = self.encoded.place(int(self._name))
        numbers = [_CLS, *range(place.start + _SPECIAL, place.stop + _SPECIAL), _SEP]
        return numbers + [_PAD] * (len(tokens) - len(numbers))

    def convert_ids_to_tokens(self, numbers: Sequence[int]) -> list[str]:
        names = {_CLS: "[CLS]", _SEP: "[SEP]"}
        pieces = [self.encoded.tokens[n - _SPECIAL] if n >= _SPECIAL else names[n] for n in numbers]
        pieces = [token.replace(_WORDS, " ").replace(_LABELS, " ") for token in pieces]
        if self.start and len(pieces) > 1 and not pieces[1].startswith(self.start):
            pieces[1] = self.start + pieces[1]
        return pieces


class _NumberedClassifier:
    """A token classifier that takes numbers for tokens, and is sure of the protected ones."""

    def __init__(self, model: Any, special: Sequence[int], device: str) -> None:
        self.torch = require("torch", extra="lingua", why=_WHY)
        self.model = model
        self.special = list(special)
        self.device = device
        self.ids: Any = None
        self.protected: Any = None
        self.probabilities: NDArray[np.float64]
        self.seen: dict[bytes, Any] = {}

    def begin(self, encoded: Encoded, protected: NDArray[np.bool_]) -> None:
        ids = np.concatenate([np.array(self.special, np.int64), encoded.ids])
        self.ids = self.torch.tensor(ids, device=self.device)
        self.protected = self.torch.tensor(
            np.concatenate([np.zeros(_SPECIAL, np.bool_), protected]), device=self.device
        )
        self.probabilities = np.zeros(len(encoded.ids))

    def __call__(self, *, input_ids: Any, attention_mask: Any) -> Any:
        key = input_ids.cpu().numpy().tobytes()
        if key not in self.seen:
            output = self.model(input_ids=self.ids[input_ids], attention_mask=attention_mask.long())
            self.seen[key] = output.logits.float()
        logits = self.seen[key]
        if not logits.isfinite().all():
            raise CompressionError("the classifier's scores are not finite: its weights are damaged")
        numbers = input_ids.cpu().numpy()
        keep = logits.softmax(-1)[..., 1].double().cpu().numpy()
        self.probabilities[numbers[numbers >= _SPECIAL] - _SPECIAL] = keep[numbers >= _SPECIAL]
        sure = self.torch.full_like(logits, -1e4)
        sure[..., 1] = 1e4
        return SimpleNamespace(loss=None, logits=self.torch.where(self.protected[input_ids][..., None], sure, logits))


class _ReaderCounts:
    """The reader's count in place of the package's encoding."""

    def __init__(self) -> None:
        self.encoded: Encoded
        self.count_tokens: TokenCounter

    def encode(self, text: str) -> range:
        return range(max(1, self.count_tokens(text)))


class _ClassifierDriver(_PromptCompressor):
    """LLMLingua-2."""

    def __init__(self, tokenizer: Any, model: Any, *, device: str, window: int, family: str) -> None:
        self.torch = require("torch", extra="lingua", why=_WHY)
        self._begins_word = require("llmlingua.utils", extra="lingua", why=_WHY).is_begin_of_new_word
        start = "▁" if "roberta" in family else ""
        special = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
        self.tokenizer = _PieceTokenizer(start)
        self.model = _NumberedClassifier(model, special, device)
        self.device = device
        self.model_name = family  # by which the package knows how words are marked
        self.use_llmlingua2 = True
        self.max_batch_size, self.max_force_token = 16, 0
        self.added_tokens: list[str] = []
        self.special_tokens = {"[CLS]", "[SEP]"}
        self.window = window
        self.max_seq_len = window
        self.oai_tokenizer = _ReaderCounts()
        self.context_idxs = []

    def forget(self) -> None:
        """Drop what was remembered of the last texts."""
        self.model.seen.clear()

    def judge(
        self,
        request: LinguaRequest,
        target: float,
    ) -> Verdict:
        """Run the package once, for `target` of the scorer's tokens; it does not read the question."""
        encoded, options = request.encoded, request.options
        lengths = np.diff(encoded.bounds)
        self.tokenizer.encoded = encoded
        self.oai_tokenizer.count_tokens = request.count_tokens
        self.max_seq_len = int(lengths.max()) + 2  # texts are padded to it
        self.model.begin(encoded, request.protected)
        with self.torch.random.fork_rng(devices=[]):  # the package's DataLoader draws a number
            report = self.compress_prompt(
                [str(text) for text in range(len(lengths))],
                rate=min(0.99, max(0.01, target / len(encoded.ids))),
                use_context_level_filter=options.document_filter,
                use_token_level_filter=options.token_filter,
                force_context_ids=list(request.forced),
                return_word_label=True,
                word_sep=_WORDS,
                label_sep=_LABELS,
            )
        labels = [word.rpartition(_LABELS)[2] == "1" for word in report["fn_labeled_original_prompt"].split(_WORDS)]
        return self._verdict(encoded, request.protected, labels)

    def _verdict(self, encoded: Encoded, protected: NDArray[np.bool_], labels: Sequence[bool]) -> Verdict:
        values = self.model.probabilities
        kept = np.zeros(len(values), np.bool_)
        word = -1
        for text in range(len(encoded.texts)):
            place = encoded.place(text)
            for at, token in enumerate(self.tokenizer.tokenize(str(text)), place.start):
                word += self._begins_word(token, self.model_name, [], {})
                kept[at] = labels[word]
            own, sure = kept[place], protected[place]
            left_out = values[place][~own & ~sure]
            values[place] -= left_out.max() if len(left_out) else values[place].min() - 1e-6
        if word + 1 != len(labels):
            raise CompressionError(f"llmlingua judged {len(labels)} words of {word + 1}")
        return Verdict(np.ones(len(values), np.bool_), kept, values)


def language_model_driver(tokenizer: Any, model: Any, *, device: str, window: int) -> _LanguageModelDriver:
    """Return LLMLingua and LongLLMLingua on a causal language model that reads at most `window` tokens at a time."""
    package = require("llmlingua", extra="lingua", why=_WHY)
    kind = type("LanguageModelDriver", (_LanguageModelDriver, package.PromptCompressor), {})
    return kind(tokenizer, model, device=device, window=window)  # type: ignore[no-any-return]


def classifier_driver(tokenizer: Any, model: Any, *, device: str, window: int, family: str) -> _ClassifierDriver:
    """Return LLMLingua-2 on a token classifier; `family` is the package's name for how its tokenizer marks words."""
    package = require("llmlingua", extra="lingua", why=_WHY)
    kind = type("ClassifierDriver", (_ClassifierDriver, package.PromptCompressor), {})
    return kind(tokenizer, model, device=device, window=window, family=family)  # type: ignore[no-any-return]
