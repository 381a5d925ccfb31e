"""The border with llama.cpp.

Built on the C binding (`llama_cpp.llama_cpp`), not on the binding's `Llama` class: that class has one sequence, no
cancellation, no thread safety, and ways to end the process that Python cannot catch. Modules in the order of data flow:
`gguf` (what a file is, before llama.cpp sees it), `library` (loading, logs, features), `threads`, `vocabulary` (text to
tokens), `chat` (messages to tokens), `sampling` (logits to a token), `schema`, `gbnf` and `grammar` (what the tokens must spell),
`requests` (what is asked), `engine` (the owner thread), `model` (the public class), `process` (the same in a process of its own).
"""

from leanrag.llama.embedder import LlamaCppEmbedder as LlamaCppEmbedder
from leanrag.llama.files.quantize import quantize as quantize
from leanrag.llama.model import LlamaCppModel as LlamaCppModel
from leanrag.llama.options import LlamaOptions as LlamaOptions
from leanrag.llama.placement.layers import GpuOptions as GpuOptions
from leanrag.llama.process import IsolatedModel as IsolatedModel
from leanrag.llama.process import check_in_process as check_in_process
from leanrag.llama.process import load_model as load_model
from leanrag.llama.settings import ComputeOptions as ComputeOptions
