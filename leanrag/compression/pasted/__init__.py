"""Compression of what people paste: code, JSON, tables, logs, chats and instructions, each by its own structure."""

from leanrag.compression.pasted.calling import compress as compress
from leanrag.compression.pasted.kinds import PastedKind as PastedKind
from leanrag.compression.pasted.kinds import detect_kind as detect_kind
