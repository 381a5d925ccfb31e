"""GGUF files: `gguf` reads their headers, `convert` and `quantize` write them."""

from leanrag.llama.files.gguf import GGUFArray as GGUFArray
from leanrag.llama.files.gguf import GGUFInfo as GGUFInfo
from leanrag.llama.files.gguf import check_gguf as check_gguf
