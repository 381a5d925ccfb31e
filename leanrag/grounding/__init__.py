"""Where the sources say what an answer says, and whether they do."""

from leanrag.grounding.entailment import ReaderEntailment
from leanrag.grounding.verdict import Grounding, ground

__all__ = ["Grounding", "ReaderEntailment", "ground"]
