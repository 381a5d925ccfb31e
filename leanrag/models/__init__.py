"""Names of models to files."""

from leanrag.models.registry import REGISTRY as REGISTRY
from leanrag.models.registry import ModelSpec as ModelSpec
from leanrag.models.registry import pull as pull
from leanrag.models.registry import resolve as resolve
