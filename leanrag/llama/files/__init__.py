"""GGUF files: `gguf` reads their headers, `preflight` and `adapters` check them, `convert` and `quantize` write files."""

from leanrag.llama.files.adapters import check_adapter as check_adapter
from leanrag.llama.files.gguf import GGUFArray as GGUFArray
from leanrag.llama.files.gguf import GGUFInfo as GGUFInfo
from leanrag.llama.files.preflight import check_gguf as check_gguf
