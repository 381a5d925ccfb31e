"""Which model answers, and how sure it is."""

from leanrag.routing.calibration import Calibration as Calibration
from leanrag.routing.calibration import DriftAudit as DriftAudit
from leanrag.routing.cascade import Cascade as Cascade
from leanrag.routing.confidence import Confidence as Confidence
from leanrag.routing.query_router import QueryRouter as QueryRouter
from leanrag.routing.questions import read_questions as read_questions
from leanrag.routing.signals import Signals as Signals
