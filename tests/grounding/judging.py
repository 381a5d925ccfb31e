"""A verdict about one document."""

from leanrag import Chunk, Hit
from leanrag.grounding import ground
from leanrag.types import PackedItem, Segment


def is_supported(text: str, question: str, answer: str) -> bool:
    """Whether the document carries the answer to the question."""
    hit = Hit(Chunk("d", 0, len(text), text), 1.0)
    item = PackedItem(1, hit, text, (Segment(0, len(text), 0, 0, len(text)),), 1)
    return ground(question, answer, [item]).is_supported
