"""How probable it is that an answer is right, and from which confidence on it may be kept, with a guarantee.

Small functions on arrays, and two values made of them: `Calibration`, what was learnt from labelled questions for one chain of
models, kept in a file; and `DriftAudit`, what a small random share of later questions says about it.

A row is a question that was answered by the smaller model. Its loss is 1 when keeping that answer loses something: the larger
model is right and the smaller wrong (or, when nothing is known of the larger one, the smaller is wrong). The risk is the mean
loss over **all** questions; one that goes on to the larger model loses nothing.
"""

from leanrag.routing.calibration.audit import DriftAudit as DriftAudit
from leanrag.routing.calibration.fitting import IsotonicModel as IsotonicModel
from leanrag.routing.calibration.fitting import LogisticModel as LogisticModel
from leanrag.routing.calibration.fitting import cross_fit as cross_fit
from leanrag.routing.calibration.fitting import fit_isotonic as fit_isotonic
from leanrag.routing.calibration.fitting import fit_logistic as fit_logistic
from leanrag.routing.calibration.guarantee import GuaranteedThreshold as GuaranteedThreshold
from leanrag.routing.calibration.guarantee import clopper_pearson_upper as clopper_pearson_upper
from leanrag.routing.calibration.guarantee import guaranteed_threshold as guaranteed_threshold
from leanrag.routing.calibration.guarantee import labels_needed as labels_needed
from leanrag.routing.calibration.guarantee import least_escalation as least_escalation
from leanrag.routing.calibration.quality import auroc as auroc
from leanrag.routing.calibration.quality import brier as brier
from leanrag.routing.calibration.quality import expected_calibration_error as expected_calibration_error
from leanrag.routing.calibration.stored import CalibratedModel as CalibratedModel
from leanrag.routing.calibration.stored import Calibration as Calibration
from leanrag.routing.calibration.stored import rows_needed as rows_needed
