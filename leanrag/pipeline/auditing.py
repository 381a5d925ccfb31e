"""Counts what the audit of a cascade finds, question after question."""

from __future__ import annotations

import logging
import threading

from leanrag.routing.calibration import DriftAudit

__all__ = ["AuditCounter"]

logger = logging.getLogger(__name__)


class AuditCounter:
    """An audit that is updated by each audited question; any thread may call.

    Args:
        audit: How it stands at the beginning; None when nothing is audited.
    """

    def __init__(self, audit: DriftAudit | None) -> None:
        self._audit, self._lock = audit, threading.Lock()
        self._has_warned = False

    @property
    def audit(self) -> DriftAudit | None:
        """The audit as it stands now."""
        with self._lock:
            return self._audit

    def record(self, loss: bool) -> None:
        """Count one audited question; log a warning the first time that the risk has grown."""
        with self._lock:
            if self._audit is None:
                return
            self._audit = audit = self._audit.record(loss)
            is_news = audit.has_drifted and not self._has_warned
            self._has_warned = self._has_warned or is_news
        if is_news:
            logger.warning(
                "the risk is above %g: %d of %d audited questions lost something; calibrate again",
                audit.alpha,
                audit.losses,
                audit.n,
            )
