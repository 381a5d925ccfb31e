"""Names of models to files.

Modules in the order of data flow: `registry` (what a name stands for), `cache` (where it is on this machine), `fetching` (how it
gets there) with `hub`, and `encodings` (tokenizers of tiktoken that were pulled).
"""

from leanrag.models.cache import ModelStatus, keep_copy, list_models, resolve
from leanrag.models.encodings import load_encoding
from leanrag.models.fetching import pull
from leanrag.models.registry import REGISTRY, HubFile, ModelFile, ModelSpec, WheelMember

__all__ = [
    "REGISTRY",
    "HubFile",
    "ModelFile",
    "ModelSpec",
    "ModelStatus",
    "WheelMember",
    "keep_copy",
    "list_models",
    "load_encoding",
    "pull",
    "resolve",
]
