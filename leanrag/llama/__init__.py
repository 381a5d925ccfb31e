"""The border with llama.cpp.

Built on the C binding (`llama_cpp.llama_cpp`), not on the binding's `Llama` class: that class has one sequence, no
cancellation, no thread safety, and ways to end the process that Python cannot catch.

The way of a prompt, in order: `model` (the public class), `chat` and `vocabulary` (messages to tokens), `requests` (what is
asked), `engine` (the owner thread), `sequences` (what is computed already), `context` and `batch` (llama.cpp computes), `rows` and
`sampling` (logits to a token), `run` (tokens to text). Below: `loading`, `weights`, `library`. Beside: `embedder`, and `process`,
`child`, `wire` and `child_main` for a model in a process of its own.

Three wings stand apart: `files` (GGUF files), `grammar` (structured answers), `placement` (GPUs).
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
