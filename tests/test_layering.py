"""May import: {types, errors} < {protocols, _optional, text} < stages < pipeline and ingest < the outside."""

import ast
from pathlib import Path

import pytest

import leanrag

ROOT = Path(leanrag.__file__).parent
LAYERS = [
    {"types", "errors"},
    {"protocols", "_optional", "text", "files", "selection", "vectors"},
    {"loading", "chunking", "embedding", "index", "store", "retrieval", "compression", "packing", "cache", "prompting", "grounding",
     "models", "metrics", "testing", "llama", "routing", "calibration", "confidence"},
    {"ingest", "doctor", "copies", "remote", "reader", "cascade", "turn", "calibrating"},
    {"pipeline"},
    {"cli", "__init__", "__main__"},
]  # fmt: skip


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(path: Path) -> set[str]:
    """Rooms that a file imports, imports inside functions and for type checking included."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    modules = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)} | {
        alias.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Import)
        for alias in node.names
    }  # fmt: skip
    return {room_of(module) for module in modules if module.split(".")[0] == "leanrag"}


def room_of_file(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = sorted(ROOT.rglob("*.py"))


def test_every_room_has_a_layer():
    assert {room_of_file(path) for path in FILES} <= set().union(*LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    room = room_of_file(path)
    layer = next(i for i, rooms in enumerate(LAYERS) if room in rooms)
    allowed = set().union(*LAYERS[:layer], {room}) | (LAYERS[layer] if layer in (0, 3, 5) else set())
    assert imports_of(path) <= allowed
