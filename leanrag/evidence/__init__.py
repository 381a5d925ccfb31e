"""What of the hits a prompt shows: units, their worth, and what fits the budget."""

from leanrag.evidence.budget import TokenBudget as TokenBudget
from leanrag.evidence.greedy import GreedyPacker as GreedyPacker
from leanrag.evidence.likelihood import LikelihoodScorer as LikelihoodScorer
from leanrag.evidence.packing import CompressingPacker as CompressingPacker
from leanrag.evidence.packing import EvidencePacker as EvidencePacker
from leanrag.evidence.protection import ProtectedKind as ProtectedKind
from leanrag.evidence.protection import Protection as Protection
from leanrag.evidence.scoring import SentenceScorer as SentenceScorer
from leanrag.evidence.scoring import SentenceVectors as SentenceVectors
from leanrag.evidence.units import Unit as Unit
from leanrag.evidence.units import split_units as split_units
