"""Models by name: find their files on this machine, and download them.

The modules, in the order of data flow: `registry` (the names, and the exact files of each), `cache` (the files on this machine),
`fetching` and `hub` (downloads), and `encodings` (tokenizers of tiktoken that were pulled).
"""

from leanrag.models.cache import ModelFiles, ModelStatus, keep_copy, list_models, resolve, resolve_model, split_name
from leanrag.models.encodings import load_encoding, token_counter
from leanrag.models.fetching import pull
from leanrag.models.registry import REGISTRY, HubFile, ModelFile, ModelSpec, WheelMember

__all__ = [
    "REGISTRY",
    "HubFile",
    "ModelFile",
    "ModelFiles",
    "ModelSpec",
    "ModelStatus",
    "WheelMember",
    "keep_copy",
    "list_models",
    "load_encoding",
    "pull",
    "resolve",
    "resolve_model",
    "split_name",
    "token_counter",
]
