"""From a folder and a question to an answer: the order of the stages."""

from leanrag.pipeline.conversation import ChatHistory as ChatHistory
from leanrag.pipeline.conversation import Conversation as Conversation
from leanrag.pipeline.opening import open as open  # noqa: A004 - leanrag.open, as gzip.open
from leanrag.pipeline.query import AskOptions as AskOptions
from leanrag.pipeline.rag import Rag as Rag
from leanrag.pipeline.turn import NO_ANSWER as NO_ANSWER
from leanrag.pipeline.turn import AnswerStream as AnswerStream
