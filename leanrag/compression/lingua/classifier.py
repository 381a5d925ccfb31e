"""LLMLingua-2: the package on a token classifier."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanrag._optional import require
from leanrag.compression.lingua.driver import WHY, Encoded, LinguaRequest, PackageBase, Verdict
from leanrag.errors import CompressionError
from leanrag.protocols import TokenCounter

__all__ = ["classifier_driver"]

_WORDS, _LABELS = "\x1e", "\x1f"  # between words, and between a word and its label, in what LLMLingua-2 reports
_CLS, _SEP, _PAD = 0, 1, 2
_SPECIAL = 3  # number of special tokens


class _PieceTokenizer:
    """The tokenizer that LLMLingua-2 gets: a text has a name, and a token has an index instead of an id."""

    def __init__(self, start: str) -> None:
        self.start = start  # prefix of a token that begins a word; "" for WordPiece, which marks all other tokens
        self.encoded: Encoded
        self._name = ""

    def tokenize(self, name: str) -> list[str]:
        self._name = name
        span = self.encoded.tokens_of(int(name))
        tokens = [token.replace(_WORDS, " ").replace(_LABELS, " ") for token in self.encoded.tokens[span]]
        if self.start and tokens and not tokens[0].startswith(self.start):
            tokens[0] = self.start + tokens[0]  # a text never begins within a word
        return tokens

    def convert_tokens_to_string(self, _tokens: Sequence[str]) -> str:
        return self._name

    def convert_tokens_to_ids(self, tokens: Sequence[str]) -> list[int]:
        span = self.encoded.tokens_of(int(self._name))
        numbers = [_CLS, *range(span.start + _SPECIAL, span.stop + _SPECIAL), _SEP]
        return numbers + [_PAD] * (len(tokens) - len(numbers))

    def convert_ids_to_tokens(self, numbers: Sequence[int]) -> list[str]:
        names = {_CLS: "[CLS]", _SEP: "[SEP]"}
        pieces = [self.encoded.tokens[n - _SPECIAL] if n >= _SPECIAL else names[n] for n in numbers]
        pieces = [token.replace(_WORDS, " ").replace(_LABELS, " ") for token in pieces]
        if self.start and len(pieces) > 1 and not pieces[1].startswith(self.start):
            pieces[1] = self.start + pieces[1]
        return pieces


class _NumberedClassifier:
    """A token classifier that takes indices instead of token ids, and returns a probability of 1 for protected tokens."""

    def __init__(self, model: Any, special: Sequence[int], device: str) -> None:
        self.torch = require("torch", extra="lingua", why=WHY)
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
            raise CompressionError(
                "the classifier's scores are not finite, so its weights are damaged. Use another model folder"
            )
        numbers = input_ids.cpu().numpy()
        keep = logits.softmax(-1)[..., 1].double().cpu().numpy()
        self.probabilities[numbers[numbers >= _SPECIAL] - _SPECIAL] = keep[numbers >= _SPECIAL]
        sure = self.torch.full_like(logits, -1e4)
        sure[..., 1] = 1e4
        return SimpleNamespace(loss=None, logits=self.torch.where(self.protected[input_ids][..., None], sure, logits))


class _ReaderCounts:
    """The token count of the reader, instead of the encoding of the package."""

    def __init__(self) -> None:
        self.encoded: Encoded
        self.count_tokens: TokenCounter

    def encode(self, text: str) -> range:
        return range(max(1, self.count_tokens(text)))


class _ClassifierDriver(PackageBase):
    """LLMLingua-2."""

    def __init__(self, tokenizer: Any, model: Any, *, device: str, window: int, family: str) -> None:
        self.torch = require("torch", extra="lingua", why=WHY)
        self._begins_word = require("llmlingua.utils", extra="lingua", why=WHY).is_begin_of_new_word
        start = "▁" if "roberta" in family else ""
        special = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
        self.tokenizer = _PieceTokenizer(start)
        self.model = _NumberedClassifier(model, special, device)
        self.device = device
        self.model_name = family  # tells the package how the tokenizer marks words
        self.use_llmlingua2 = True
        self.max_batch_size, self.max_force_token = 16, 0
        self.added_tokens: list[str] = []
        self.special_tokens = {"[CLS]", "[SEP]"}
        self.window = window
        self.max_seq_len = window
        self.oai_tokenizer = _ReaderCounts()
        self.context_idxs = []

    def forget(self) -> None:
        """Drop the results for the last texts."""
        self.model.seen.clear()

    def judge(
        self,
        request: LinguaRequest,
        target: float,
    ) -> Verdict:
        """Run the package once, with a target of `target` tokens of the scorer. The question is not read."""
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
            span = encoded.tokens_of(text)
            for at, token in enumerate(self.tokenizer.tokenize(str(text)), span.start):
                word += self._begins_word(token, self.model_name, [], {})
                kept[at] = labels[word]
            dropped = values[span][~kept[span] & ~protected[span]]
            values[span] -= dropped.max() if len(dropped) else values[span].min() - 1e-6
        if word + 1 != len(labels):
            raise CompressionError(
                f"llmlingua returned labels for {len(labels)} words, but the texts have {word + 1}. Use llmlingua 0.2.2"
            )
        return Verdict(np.ones(len(values), np.bool_), kept, values)


def classifier_driver(tokenizer: Any, model: Any, *, device: str, window: int, family: str) -> _ClassifierDriver:
    """Return LLMLingua-2 on a token classifier; `family` tells the package how the tokenizer marks words."""
    package = require("llmlingua", extra="lingua", why=WHY)
    kind = type("ClassifierDriver", (_ClassifierDriver, package.PromptCompressor), {})
    return kind(tokenizer, model, device=device, window=window, family=family)  # type: ignore[no-any-return]
