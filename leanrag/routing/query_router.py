"""Choose the first model for a question from its words alone, before anything is generated.

A router predicts the *gap*: how much more often the larger model is right than the smaller model on questions like this.
The gap is what the larger model gains: on a hard question that both models get wrong, it gains nothing. (On the data of
RouteLLM, Ong et al., ICLR 2025, a router that learns the gap separates better than a router that learns when the smaller model
fails. Work on deferral calls the gap "delegation value".)

`QueryRouter.fit` learns a linear rule from the user's questions: hashed words and word pairs, and `QUESTION_FEATURES`.
`QueryRouter.zero_label()` is a rule that needs no labelled questions. Both need only NumPy, and well under a millisecond for each
question.
"""

from __future__ import annotations

import base64
import os
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pydantic

from leanrag.checks import check_positive
from leanrag.errors import ConfigurationError
from leanrag.files import RecordFormat, read_record, write_record
from leanrag.routing.question_features import QUESTION_FEATURES, excerpt_of, question_features
from leanrag.text import words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ZERO_LABEL_WEIGHTS", "QueryRouter"]

ZERO_LABEL_WEIGHTS = {"characters": 1.0, "relations": 1.0, "negations": 1.0}
"""The rule without labels, on the raw features. Each feature is a sign that a small model will fail, and each has the weight 1.

A long question has many facts to keep in mind. "Each", "if", "than" and "remaining" connect quantities and conditions. "Not",
"except" and "false" invert the answer. The weights are not fitted. The features were chosen on one half of the questions of
`benchmarks/routing`, which reports the other half. Numbers, amounts and mathematical symbols did not improve the order of the
questions in the first half.
"""

MIN_ROWS = 30
"""Fewest questions for `QueryRouter.fit`."""

_FORMAT = RecordFormat(
    "leanrag router", version=3, noun="router", mend="Fit the router again and save it", max_bytes=8 << 20
)
_BUCKETS = 1 << 17
_HASH_SEED = 0x6C72
_TOLERANCE = 1e-3
_MAX_ITERATIONS = 200

_DIGIT = re.compile(r"\d")


def _sum_by_index(indices: NDArray[np.int64], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return np.bincount(indices, weights=values, minlength=size).astype(np.float64, copy=False)


class _Grams(NamedTuple):
    """A sparse matrix: the entries of all rows, row after row."""

    buckets: NDArray[np.int64]
    values: NDArray[np.float64]
    rows: NDArray[np.int64]
    n_rows: int

    def times(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _sum_by_index(self.rows, self.values * weights[self.buckets], self.n_rows)

    def transposed_times(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _sum_by_index(self.buckets, self.values * weights[self.rows], _BUCKETS)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter 64-bit numbers: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _hashed(found: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the buckets of words and pairs of neighbours, and their signed values, of unit L2 norm.

    The hashing trick of Weinberger et al. (ICML 2009): a second bit of the hash gives the sign, so that collisions
    cancel on average. Each digit counts as 0 ("3,000" is "0,000"). A word or pair that occurs `c` times has the value
    `1 + log(c)`.
    """
    if not found:
        return np.empty(0, np.int64), np.empty(0)
    forms = [_DIGIT.sub("0", word).encode("utf-8", "surrogatepass") for word in found]
    single = np.array([zlib.crc32(form, _HASH_SEED) for form in forms], np.uint64)
    pairs = (single[:-1] << np.uint64(32)) | single[1:]
    hashes, counts = np.unique(_mix(np.concatenate([single, ~pairs])), return_counts=True)
    signs = 1.0 - 2.0 * (hashes >> np.uint64(63)).astype(np.float64)
    values = signs * (1.0 + np.log(counts))
    return (hashes & np.uint64(_BUCKETS - 1)).astype(np.int64), values / np.sqrt(values @ values)


def _hash_all(questions: Sequence[str]) -> _Grams:
    hashed = [_hashed(words(excerpt_of(question))) for question in questions]
    rows = np.repeat(np.arange(len(hashed)), [len(buckets) for buckets, _ in hashed])
    buckets = np.concatenate([buckets for buckets, _ in hashed] or [np.empty(0, np.int64)])
    values = np.concatenate([values for _, values in hashed] or [np.empty(0)])
    return _Grams(buckets, values, rows, len(hashed))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QueryRouter:
    """A linear rule on a question. A higher score means that the larger model is more useful.

    The score of a fitted router estimates the gap: larger model right minus smaller model right, in [-1, 1], not clipped. The
    score of `zero_label` only puts questions in order. Any thread may score.

    Attributes:
        dense_weights: The weight of each of `QUESTION_FEATURES`.
        gram_weights: The weight of each bucket of hashed words and word pairs; None if words do not count.
        extra_weights: The weight of each extra feature that the caller computes, such as an embedding; None if there are none.
        bias: Score of a question whose features are all 0.
        rows: Number of questions that the router was fitted on; 0 for the rule without labels.
        models: Identities of the smaller and the larger model, such as their file hashes, as passed to `fit`.

    Example:
        >>> router = QueryRouter.zero_label()
        >>> hard = "If each of the 12 boxes holds 30 pens and half are sold for $2, how much is left to earn?"
        >>> router.score("What is the capital of Peru?") < router.score(hard)
        True
    """

    dense_weights: NDArray[np.float64]
    gram_weights: NDArray[np.float32] | None = None
    extra_weights: NDArray[np.float64] | None = None
    bias: float = 0.0
    rows: int = 0
    models: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"QueryRouter(rows={self.rows}, models={self.models!r})"

    @classmethod
    def zero_label(cls) -> QueryRouter:
        """Return the rule that needs no labels: `ZERO_LABEL_WEIGHTS` on `question_features`.

        To choose `skip_above`, decide which share of questions may skip the first model. Then take that quantile of the scores of
        your questions.
        """
        return cls(_zero_label_weights())

    @classmethod
    def fit(
        cls,
        questions: Sequence[str],
        gaps: ArrayLike,
        *,
        extra: ArrayLike | None = None,
        models: Sequence[str] = (),
        ridge: float = 10.0,
    ) -> QueryRouter:
        """Learn from questions that both models answered. 12,000 questions take seconds.

        Ridge regression of the gap, solved in the dual by conjugate gradients. Four blocks have equal weight, each with a mean
        squared norm of 1: hashed words and word pairs, `QUESTION_FEATURES`, the score of `zero_label` (so that a router with few
        labels still ranks about as well as that rule), and `extra`. The columns of `extra` are standardised.
        `QUESTION_FEATURES` have comparable units; they are divided by the square root of their deviation (Pareto scaling: van
        den Berg et al., BMC Genomics, 2006), because standardising would give too much weight to features that few questions have.

        Args:
            questions: At least `MIN_ROWS` questions as users ask them, without instructions.
            gaps: `(n,)`: quality of the larger model's answer minus quality of the smaller model's answer, for example the
                difference of two labels (1 is right, 0 is wrong) or of two F1 values.
            extra: Features that the caller computes, `(n, columns)`; `score` then needs them too.
            models: Identities of the smaller and the larger model; `load` refuses a router for other models.
            ridge: Penalty: the variance of the gap that the question does not explain, divided by the variance that each block
                is expected to explain. About 10 for labels of right and wrong, where words explain a few per cent. The order of
                the scores hardly depends on it.

        Raises:
            ConfigurationError: `ridge` is not positive, there are too few rows, lengths differ, a value is not finite, or all
                gaps are equal.
        """
        target, extras = _check_rows(questions, gaps, extra)
        check_positive(ridge=ridge)
        grams = _hash_all(questions)
        dense = np.stack([question_features(question) for question in questions])
        blocks = [dense, (dense @ _zero_label_weights())[:, None], *([] if extras is None else [extras])]
        means = [block.mean(axis=0) for block in blocks]
        factors = [_factors(block, power) for block, power in zip(blocks, (0.5, 1.0, 1.0), strict=False)]
        scaled = [(block - mean) * factor for block, mean, factor in zip(blocks, means, factors, strict=True)]
        joined = np.concatenate(scaled, axis=1)  # (n, d)
        center = float(target.mean())
        dual = _conjugate_gradients(
            lambda vector: grams.times(grams.transposed_times(vector)) + joined @ (joined.T @ vector),
            ridge,
            target - center,
        )
        weights = np.split(
            (joined.T @ dual) * np.concatenate(factors), np.cumsum([block.shape[1] for block in blocks])[:-1]
        )
        return cls(
            weights[0] + weights[1] * _zero_label_weights(),
            grams.transposed_times(dual).astype(np.float32),
            None if extras is None else weights[2],
            center - sum(float(mean @ part) for mean, part in zip(means, weights, strict=True)),
            len(questions),
            tuple(models),
        )

    def score(self, question: str, extra: ArrayLike | None = None) -> float:
        """Return how useful the larger model is for this question.

        Args:
            question: The question.
            extra: Its extra features, `(columns,)`, if the router was fitted with extra features.

        Raises:
            ConfigurationError: `extra` is missing, unexpected, of another length, or not finite.
        """
        rows = None if extra is None else np.asarray(extra, np.float64)[None]
        extras = self._check_extra(rows, 1)
        found = words(excerpt_of(question))
        score = self.bias + float(question_features(question, found) @ self.dense_weights)
        if self.gram_weights is not None:
            buckets, values = _hashed(found)
            score += float(values @ self.gram_weights[buckets])
        return score + (float(extras[0] @ self.extra_weights) if extras is not None else 0.0)

    def score_many(self, questions: Sequence[str], extra: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return `score` of each question, `(n,)`; `extra` is `(n, columns)`."""
        extras = self._check_extra(None if extra is None else np.asarray(extra, np.float64), len(questions))
        rows = [None] * len(questions) if extras is None else list(extras)
        return np.array([self.score(question, row) for question, row in zip(questions, rows, strict=True)], np.float64)

    def _check_extra(self, extra: NDArray[np.float64] | None, rows: int) -> NDArray[np.float64] | None:
        wanted = 0 if self.extra_weights is None else len(self.extra_weights)
        if extra is None and not wanted:
            return None
        if extra is None or extra.shape != (rows, wanted):
            raise ConfigurationError(
                f"the router was fitted with {wanted} extra features for each question, so `extra` must have the shape "
                f"{(rows, wanted)}, got {None if extra is None else extra.shape}. Pass the same features as to `fit`"
            )
        if not np.isfinite(extra).all():
            raise ConfigurationError("`extra` contains NaN or infinity. Every feature must be finite")
        return extra

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the router to `path` as versioned JSON with a checksum. An existing file is replaced only by a complete new file.

        Raises:
            StorageError: The file cannot be written.
        """
        grams = None
        if self.gram_weights is not None:
            grams = base64.b64encode(zlib.compress(self.gram_weights.astype("<f4").tobytes())).decode("ascii")
        record = _Record(
            features=QUESTION_FEATURES,
            rows=self.rows,
            models=self.models,
            bias=self.bias,
            dense_weights=tuple(self.dense_weights.tolist()),
            extra_weights=None if self.extra_weights is None else tuple(self.extra_weights.tolist()),
            gram_weights=grams,
        )
        write_record(Path(path), record, _FORMAT)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, models: Sequence[str] | None = None) -> QueryRouter:
        """Return the router that `save` wrote; its scores are the same.

        Args:
            path: The file.
            models: Identities of the smaller and the larger model; None does not check them.

        Raises:
            StorageError: The file is missing, incomplete, edited, not a router, or of another version.
            ConfigurationError: It was fitted for other `models`.
        """
        path = Path(path)
        record = read_record(path, _Record, _FORMAT)
        if models is not None and tuple(models) != record.models:
            raise ConfigurationError(
                f"the router {str(path)!r} was fitted for the models {record.models!r}, not for {tuple(models)!r}. "
                "Fit a router for these models, or use QueryRouter.zero_label()"
            )
        extra = None if record.extra_weights is None else np.array(record.extra_weights, np.float64)
        dense = np.array(record.dense_weights, np.float64)
        grams = None if record.gram_weights is None else _unpack(record.gram_weights)
        return cls(dense, grams, extra, record.bias, record.rows, record.models)


class _Record(pydantic.BaseModel):
    """The fields of a saved router."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    features: tuple[str, ...]
    rows: pydantic.NonNegativeInt
    models: tuple[str, ...]
    bias: float
    dense_weights: tuple[float, ...]
    extra_weights: tuple[float, ...] | None
    gram_weights: str | None

    @pydantic.model_validator(mode="after")
    def _check_weights(self) -> _Record:
        if self.features != QUESTION_FEATURES:
            raise ValueError("the router was saved with other question features than this version of leanrag uses")
        if len(self.dense_weights) != len(QUESTION_FEATURES):
            raise ValueError(f"the router has {len(self.dense_weights)} weights for {len(QUESTION_FEATURES)} features")
        try:
            if self.gram_weights is not None and not np.isfinite(_unpack(self.gram_weights)).all():
                raise ValueError("the weight of a word is not finite")
        except zlib.error as error:
            raise ValueError(f"the weights of the words cannot be unpacked: {error}") from error
        return self


def _unpack(encoded: str) -> NDArray[np.float32]:
    size = _BUCKETS * 4
    raw = zlib.decompressobj().decompress(base64.b64decode(encoded, validate=True), size + 1)
    if len(raw) != size:
        raise ValueError(f"its word weights have {len(raw)} bytes instead of {size}")
    return np.frombuffer(raw, "<f4").astype(np.float32)


def _check_rows(
    questions: Sequence[str], gaps: ArrayLike, extra: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    target = np.asarray(gaps, np.float64)
    if target.shape != (len(questions),):
        raise ConfigurationError(
            f"`gaps` must have one number for each question, shape ({len(questions)},), got {target.shape}"
        )
    if len(questions) < MIN_ROWS:
        raise ConfigurationError(
            f"a router needs at least {MIN_ROWS} questions, got {len(questions)}. "
            "Label more questions (some hundreds are better), or use QueryRouter.zero_label()"
        )
    if not np.isfinite(target).all():
        raise ConfigurationError("`gaps` contains NaN or infinity. Every gap must be finite")
    if np.ptp(target) == 0:
        raise ConfigurationError(
            f"all gaps are {target[0]}, so there is nothing to learn. Add questions on which the models differ"
        )
    if extra is None:
        return target, None
    extras = np.asarray(extra, np.float64)
    if extras.ndim != 2 or extras.shape[0] != len(questions) or not extras.shape[1]:
        raise ConfigurationError(f"`extra` must have the shape ({len(questions)}, columns), got {extras.shape}")
    if not np.isfinite(extras).all():
        raise ConfigurationError("`extra` contains NaN or infinity. Every feature must be finite")
    return target, extras


def _zero_label_weights() -> NDArray[np.float64]:
    return np.array([ZERO_LABEL_WEIGHTS.get(name, 0.0) for name in QUESTION_FEATURES])


def _factors(block: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Return the factor of each column: `1 / deviation ** power`, then scaled so that the mean squared norm of a row is 1."""
    deviations = block.std(axis=0)
    factors = np.where(deviations > 1e-9, np.maximum(deviations, 1e-9) ** -power, 0.0)
    norm = float(np.linalg.norm(factors * deviations))
    return factors / norm if norm else factors


def _conjugate_gradients(
    kernel: Callable[[NDArray[np.float64]], NDArray[np.float64]], ridge: float, target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve `(kernel + ridge) x = target` to a residual of 0.1 % of the target (Hestenes and Stiefel, 1952)."""
    solution = np.zeros_like(target)
    residual = target.copy()
    direction = target.copy()
    squared = residual @ residual
    enough = _TOLERANCE**2 * squared
    for _ in range(_MAX_ITERATIONS):
        if squared <= enough:
            break
        image = kernel(direction) + ridge * direction
        step = squared / (direction @ image)
        solution += step * direction
        residual -= step * image
        before, squared = squared, residual @ residual
        direction = residual + (squared / before) * direction
    return solution
