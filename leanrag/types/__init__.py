"""Values that flow between the stages.

All are frozen dataclasses: a stage returns new values and changes no argument. Offsets are in characters (Python string
indices) of `Document.text`; seconds are floats; tokens are counted by the answering model unless a name says otherwise.
Unknown is `None`, zero is `0`.
"""

from leanrag.types.answers import AddReport as AddReport
from leanrag.types.answers import Answer as Answer
from leanrag.types.answers import AskKey as AskKey
from leanrag.types.answers import Citation as Citation
from leanrag.types.answers import Explanation as Explanation
from leanrag.types.answers import Failure as Failure
from leanrag.types.answers import Stage as Stage
from leanrag.types.answers import Step as Step
from leanrag.types.conversation import Exchange as Exchange
from leanrag.types.conversation import SourceText as SourceText
from leanrag.types.documents import Chunk as Chunk
from leanrag.types.documents import Document as Document
from leanrag.types.documents import DocumentKind as DocumentKind
from leanrag.types.documents import Hit as Hit
from leanrag.types.documents import Mark as Mark
from leanrag.types.documents import MetadataValue as MetadataValue
from leanrag.types.documents import Scalar as Scalar
from leanrag.types.documents import Where as Where
from leanrag.types.documents import locate as locate
from leanrag.types.documents import plain_metadata as plain_metadata
from leanrag.types.generation import Adapter as Adapter
from leanrag.types.generation import CancelToken as CancelToken
from leanrag.types.generation import FinishReason as FinishReason
from leanrag.types.generation import Generation as Generation
from leanrag.types.generation import Message as Message
from leanrag.types.generation import Prompt as Prompt
from leanrag.types.generation import Scores as Scores
from leanrag.types.generation import TextPiece as TextPiece
from leanrag.types.generation import Usage as Usage
from leanrag.types.packing import Compression as Compression
from leanrag.types.packing import DroppedItem as DroppedItem
from leanrag.types.packing import DroppedSpan as DroppedSpan
from leanrag.types.packing import Evidence as Evidence
from leanrag.types.packing import PackAction as PackAction
from leanrag.types.packing import PackedItem as PackedItem
from leanrag.types.packing import Packing as Packing
from leanrag.types.packing import Segment as Segment
