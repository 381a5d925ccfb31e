"""Which waiting requests start now.

Only the owner thread of the engine uses it.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence

from leanrag.llama.context import Context
from leanrag.llama.requests import Request
from leanrag.llama.run import Run
from leanrag.llama.run import Sequence as RunSequence
from leanrag.llama.sequences import Sequences

__all__ = ["Admission", "NotNow"]

_MAX_OVERTAKEN = 64  # how often later requests may start before a waiting request
# A prompt among answers costs a GPU this time, whatever its length: graphs of other shapes, for it and then for the answers again.
_READING_SECONDS = 0.012
_LONGEST_SECONDS = 0.1  # that a request waits for others, however many answers it would hold up


class NotNow(enum.Enum):
    """Why a request does not start now: LATER ones may start before it, or ALL wait until a run ends."""

    LATER = enum.auto()
    ALL = enum.auto()


class Admission:
    """Decides when requests start.

    Args:
        context: The context that computes.
        sequences: Its sequences.
    """

    def __init__(self, context: Context, sequences: Sequences) -> None:
        self._context, self._sequences = context, sequences

    def is_too_soon(self, waiting: Sequence[Request], runs: Sequence[Run]) -> bool:
        """Whether requests wait a little longer, so that a GPU reads more prompts together while it writes answers.

        They start as soon as all of them together have waited as long as the answers together are held up by reading them (the rule
        of ski rental: Karlin et al., Competitive snoopy caching, Algorithmica 3, 1988), or one of them a tenth of a second.
        """
        if not self._context.reuses_graphs or any(run.pending is None for run in runs):
            return False
        now = time.perf_counter()
        seconds = [now - request.submitted for request in waiting]
        return sum(seconds) < _READING_SECONDS * len(runs) and max(seconds, default=0.0) < _LONGEST_SECONDS

    def find_source(self, request: Request, *, has_runs: bool) -> tuple[RunSequence | None, int] | NotNow:
        """Return the sequence to share cells with, None for none, and the number of shared tokens; the request has room then."""
        context, sequences = self._context, self._sequences
        source, shared = sequences.find_source(request)
        is_foreign = 2 * shared < len(request.tokens)
        if has_runs and is_foreign and self._count_cells() + request.n_cells > context.mixed_cells:
            # Computed alone, it is faster. Requests that share a prompt with a run start before it.
            request.overtaken += 1
            return NotNow.ALL if request.overtaken > _MAX_OVERTAKEN else NotNow.LATER
        if source is not None and sequences.is_worth_waiting(source, shared):
            return NotNow.LATER  # another run is reading the shared beginning: this request starts after that
        if not sequences.make_room(request, source, shared):
            if has_runs or source is None:
                return NotNow.ALL
            sequences.evict(source)  # no run is active, and the other cells of the source take too much of the window
            return None, 0
        return source, shared

    def _count_cells(self) -> int:
        """Return the cells in use. If only few may be, also count those that the unread prompts of runs are about to use."""
        used = self._context.n_ctx - self._sequences.cells.free
        return used + self._sequences.n_unread() if self._context.mixed_cells < self._context.n_ctx else used
