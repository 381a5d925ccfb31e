"""How probable it is that an answer is right, and from which confidence on it may be kept, with a guarantee.

Small functions on arrays, and two values made of them: `Calibration`, what was learnt from labelled questions for one chain of
models, kept in a file; and `DriftAudit`, what a small random share of later questions says about it.

A row is a question that was answered by the smaller model. Its loss is 1 when keeping that answer loses something: the larger
model is right and the smaller wrong (or, when nothing is known of the larger one, the smaller is wrong). The risk is the mean
loss over **all** questions; one that goes on to the larger model loses nothing.
"""

from __future__ import annotations

from leanrag.routing.calibration.audit import DriftAudit
from leanrag.routing.calibration.fitting import IsotonicModel, LogisticModel, cross_fit, fit_isotonic, fit_logistic
from leanrag.routing.calibration.guarantee import (
    GuaranteedThreshold,
    clopper_pearson_upper,
    guaranteed_threshold,
    labels_needed,
    least_escalation,
)
from leanrag.routing.calibration.quality import auroc, brier, expected_calibration_error
from leanrag.routing.calibration.stored import CalibratedModel, Calibration, rows_needed

__all__ = [
    "CalibratedModel",
    "Calibration",
    "DriftAudit",
    "GuaranteedThreshold",
    "IsotonicModel",
    "LogisticModel",
    "auroc",
    "brier",
    "clopper_pearson_upper",
    "cross_fit",
    "expected_calibration_error",
    "fit_isotonic",
    "fit_logistic",
    "guaranteed_threshold",
    "labels_needed",
    "least_escalation",
    "rows_needed",
]
