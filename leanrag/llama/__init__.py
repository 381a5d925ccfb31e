"""The interface to llama.cpp.

It uses the C functions of the binding (`llama_cpp.llama_cpp`) and not the class `Llama`. That class has only one sequence, no
cancellation and no thread safety, and it can end the process in ways that Python cannot catch.

A prompt goes through these modules, in order: `model` (the public class), `chat` and `vocabulary` (messages to tokens),
`requests`, `engine` (the thread that owns the model), `admission` (which requests start now), `sequences` (what was computed
before), `parts` (what a batch holds), `context` and `batch` (llama.cpp computes), `device_draws`, or `rows` and `sampling` (logits
to a token), `run` (tokens to text). `failures` has the errors. They use `loading`, `weights`, `adapters` (LoRA) and
`library`. `trial` and `trial_main` load a file of unknown origin in a child process first. Further modules are `embedder`, and
`process`, `child`, `wire` and `child_main` for a model in a child process.

Three folders are separate: `files` (GGUF files), `grammar` (structured answers), `placement` (GPUs).
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
