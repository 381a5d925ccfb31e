"""Compute the probability that an answer is right, and the lowest confidence at which it may be kept, with a guarantee.

The folder has small functions on arrays and two values. `Calibration` is what labelled questions taught about a model; it can be
saved. `DriftAudit` checks a calibration with a small random share of later questions.

A row is a question that the smaller model answered. Its loss is 1 if the smaller model is wrong and the larger model is right; if
nothing is known about the larger model, the loss is 1 if the smaller model is wrong. The risk is the mean loss over **all**
questions; a question that is passed on to the larger model has the loss 0.
"""

from leanrag.bounds import clopper_pearson_upper as clopper_pearson_upper
from leanrag.bounds import labels_needed as labels_needed
from leanrag.routing.calibration.audit import DriftAudit as DriftAudit
from leanrag.routing.calibration.fitting import IsotonicModel as IsotonicModel
from leanrag.routing.calibration.fitting import LogisticModel as LogisticModel
from leanrag.routing.calibration.fitting import cross_fit as cross_fit
from leanrag.routing.calibration.fitting import fit_isotonic as fit_isotonic
from leanrag.routing.calibration.fitting import fit_logistic as fit_logistic
from leanrag.routing.calibration.guarantee import GuaranteedThreshold as GuaranteedThreshold
from leanrag.routing.calibration.guarantee import guaranteed_threshold as guaranteed_threshold
from leanrag.routing.calibration.guarantee import least_escalation as least_escalation
from leanrag.routing.calibration.quality import auroc as auroc
from leanrag.routing.calibration.quality import brier as brier
from leanrag.routing.calibration.quality import expected_calibration_error as expected_calibration_error
from leanrag.routing.calibration.stored import CalibratedModel as CalibratedModel
from leanrag.routing.calibration.stored import Calibration as Calibration
from leanrag.routing.calibration.stored import rows_needed as rows_needed
