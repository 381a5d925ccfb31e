"""LLMLingua-2: a token classifier that says which words to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanrag._optional import require
from leanrag.compression.lingua.driver import WHY, Encoded, LinguaRequest, Verdict
from leanrag.compression.lingua.words import (
    Family,
    document_value,
    filter_documents,
    keep_words,
    read_words,
    word_values,
)
from leanrag.errors import CompressionError
from leanrag.spans import Span

__all__ = ["ClassifierDriver", "TokenClassifier"]

_BATCH = 16  # chunks


class TokenClassifier:
    """The probability that each token stays.

    Args:
        tokenizer: Of transformers; it has the special tokens of the classifier.
        model: Of transformers; label 1 is "keep".
        device: Where the model is.
        window: Most tokens that it reads at a time, special tokens included.
        family: How the tokenizer marks words.
    """

    def __init__(self, tokenizer: Any, model: Any, *, device: str, window: int, family: Family) -> None:
        self.torch = require("torch", extra="lingua", why=WHY)
        self.tokenizer, self.model, self.device, self.family = tokenizer, model, device, family
        self.chunk_tokens = window - 2
        self._begin, self._end, self._pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id

    def probabilities(self, encoded: Encoded, chunks: Sequence[Span]) -> NDArray[np.float64]:
        """Return the probability of each token `(n,)`; the chunks are read one by one.

        Raises:
            CompressionError: A probability is not a number.
        """
        result = np.zeros(len(encoded.ids))
        for at in range(0, len(chunks), _BATCH):
            batch = chunks[at : at + _BATCH]
            length = max(stop - first for first, stop in batch) + 2
            ids = np.full((len(batch), length), self._pad, np.int64)
            for row, (first, stop) in enumerate(batch):
                ids[row, : stop - first + 2] = [self._begin, *encoded.ids[first:stop].tolist(), self._end]
            mask = np.arange(length) < np.array([[stop - first + 2] for first, stop in batch])
            with self.torch.no_grad():
                output = self.model(
                    input_ids=self.torch.tensor(ids, device=self.device),
                    attention_mask=self.torch.tensor(mask.astype(np.int64), device=self.device),
                )
            logits = output.logits.float()
            if not logits.isfinite().all():
                raise CompressionError(
                    "the classifier's scores are not finite, so its weights are damaged. Use another model folder"
                )
            keep = logits.softmax(-1)[..., 1].double().cpu().numpy()
            for row, (first, stop) in enumerate(batch):
                result[first:stop] = keep[row, 1 : stop - first + 1]
        return result


class ClassifierDriver:
    """LLMLingua-2 for `LLMLinguaCompressor`. A text is at most as long as the classifier reads at a time."""

    def __init__(self, classifier: TokenClassifier) -> None:
        self.classifier = classifier
        self._seen: dict[bytes, NDArray[np.float64]] = {}

    def forget(self) -> None:
        """Drop the results for the last texts."""
        self._seen.clear()

    def judge(self, request: LinguaRequest, target: float) -> Verdict:
        """Return which tokens stay, at a target of `target` tokens of the scorer. The question is not read."""
        encoded, options, family = request.encoded, request.options, self.classifier.family
        rate = min(0.99, max(0.01, target / len(encoded.ids)))
        chunks = list(zip(encoded.bounds[:-1].tolist(), encoded.bounds[1:].tolist(), strict=True))
        key = encoded.ids.tobytes()
        if key not in self._seen:
            self._seen[key] = self.classifier.probabilities(encoded, [chunk for chunk in chunks if chunk[0] < chunk[1]])
        probabilities = self._seen[key]
        words = [read_words(encoded, text, chunk, family) for text, chunk in enumerate(chunks)]
        used: Sequence[int] = range(len(chunks))
        if options.document_filter and len(chunks) > 1:
            share = (rate + 1) / 2 if options.token_filter else rate
            used = filter_documents([document_value(own, probabilities) for own in words], share, request.forced)
        kept = np.zeros(len(probabilities), np.bool_)
        for text in used:
            values = word_values(words[text], probabilities, request.protected)
            spellings = [encoded.texts[text][word.start : word.end] for word in words[text]]
            share = rate if options.token_filter else 1.0
            for word, stays in zip(
                words[text], keep_words(spellings, values, share, request.count_tokens), strict=True
            ):
                kept[word.first : word.stop] = stays
        values = probabilities.copy()
        for first, stop in chunks:
            dropped = values[first:stop][~kept[first:stop] & ~request.protected[first:stop]]
            lowest = values[first:stop].min() - 1e-6 if stop > first else 0.0
            values[first:stop] -= dropped.max() if len(dropped) else lowest
        return Verdict(np.ones(len(values), np.bool_), kept, values)
