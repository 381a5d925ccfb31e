"""Check whether a guarantee still holds."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

from leanrag.bounds import binomial_cdf, clopper_pearson_upper
from leanrag.checks import check_share
from leanrag.errors import ConfigurationError

__all__ = ["DriftAudit"]


@dataclass(frozen=True, slots=True)
class DriftAudit:
    """Checks whether a guarantee still holds, with a random share of questions that the larger model answers too.

    An audit is a value: `record` returns the next audit. Every chosen question counts; a question that was passed on is not a loss.

    You may read `has_drifted` after every question: until it is True, the calibration holds. `bound` and `is_certified` use only
    the audited questions. They need at least `labels_needed(alpha, delta)` questions, and they are valid only if you fixed the
    number of questions before you started.

    Attributes:
        alpha: Highest risk.
        delta: Probability of a wrong statement.
        share: Share of the questions to audit, in [0, 1].
        seed: Seed of the choice.
        n: Number of audited questions.
        losses: Number of audited questions with a loss.
        has_drifted: Whether the risk is above `alpha`, so that the guarantee no longer holds: `evidence` has reached `1 / delta`
            after this or an earlier question. It stays True, because the probability that it is ever wrong is at most `delta`.
    """

    alpha: float
    delta: float = 0.1
    share: float = 0.02
    seed: int = 0
    n: int = 0
    losses: int = 0
    has_drifted: bool = False

    def __post_init__(self) -> None:
        check_share(open_ends="01", alpha=self.alpha, delta=self.delta)
        check_share(share=self.share)
        if not 0 <= self.losses <= self.n:
            raise ConfigurationError(f"`losses` must be in [0, n], got {self.losses!r} of {self.n!r}")
        if self.has_drifted and not self.losses:
            raise ConfigurationError(
                "`has_drifted` cannot be True without a loss. Make a new `DriftAudit` after a new calibration"
            )
        if self.evidence >= 1 / self.delta:
            object.__setattr__(self, "has_drifted", True)

    def chooses(self, question: str) -> bool:
        """Return whether to audit `question`: the same answer for the same question and seed, on any machine."""
        digest = hashlib.sha256(f"{self.seed}\0{question}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64

    def record(self, loss: bool) -> DriftAudit:
        """Return the audit after another question; `loss` says whether the kept answer was a loss."""
        return replace(self, n=self.n + 1, losses=self.losses + bool(loss))

    @property
    def bound(self) -> float:
        """Upper bound of the risk, by `clopper_pearson_upper`; 1 if no question was audited."""
        return clopper_pearson_upper(self.losses, self.n, self.delta)

    @property
    def is_certified(self) -> bool:
        """Whether the audited questions alone certify `alpha`."""
        return self.bound <= self.alpha

    @property
    def evidence(self) -> float:
        """Likelihood ratio of the audited questions: a risk above `alpha`, uniformly distributed, against a risk of `alpha`.

        `integral over p in (alpha, 1) of p^k (1 - p)^(n - k) dp / ((1 - alpha) alpha^k (1 - alpha)^(n - k))`. If the risk is
        `alpha`, this is a martingale that starts at 1; if the risk is lower, it tends to fall (Ville, 1939; mixtures: Robbins,
        Annals of Mathematical Statistics 1970). So the probability that it ever reaches `1 / delta` is at most `delta`.
        `has_drifted` remembers that it did.
        """
        n, k = self.n, self.losses
        tail = binomial_cdf(k, n + 1, self.alpha)  # of Beta(k + 1, n - k + 1), above alpha
        if tail == 0.0:
            return 0.0
        log_integral = math.log(tail) - math.log(n + 1) - _log_choose(n, k)
        log_evidence = log_integral - k * math.log(self.alpha) - (n - k + 1) * math.log1p(-self.alpha)
        return math.exp(min(log_evidence, 700.0))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
