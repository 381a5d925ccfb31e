"""Fewer tokens, the same evidence: compressors, and when they pay.

`extractive` chooses whole sentences, rows and blocks. `self_information` chooses words that surprise a GGUF model. `lingua` runs
the llmlingua package, and `compat` has its class. `messages` applies a compressor to chats and prompts. `pasted` shortens code,
JSON, tables, logs and other texts by their structure. All of them return a `Compression`.
"""

from leanrag.compression.extractive import ExtractiveCompressor as ExtractiveCompressor
from leanrag.compression.gate import CostGate as CostGate
from leanrag.compression.gate import Rates as Rates
from leanrag.compression.messages import MessageCompression as MessageCompression
from leanrag.compression.messages import compress_messages as compress_messages
from leanrag.compression.messages import compress_prompt as compress_prompt
from leanrag.compression.pasted import PastedKind as PastedKind
from leanrag.compression.pasted import compress as compress
from leanrag.compression.pasted import detect_kind as detect_kind
from leanrag.compression.self_information import SelfInformationCompressor as SelfInformationCompressor
