"""May import: {types, lines, spans} < text < errors < ground floor < {metrics, models} < wings < compression < pipeline < outside.

Rooms of one wing may use each other; wings of one floor never do.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import leanrag

ROOT = Path(leanrag.__file__).parent
FLOORS = [
    {"types", "lines", "spans"},
    {"errors", "text"},
    {"checks", "children", "openmp", "stopping", "structure", "threads"},
    {"protocols"},
    {"files", "vectors", "pending", "bounds", "sqlite", "abilities", "_optional"},
    {"metrics", "ledger", "models", "generation"},
    {"documents", "retrieval", "evidence", "routing", "llama", "remote", "caching", "prompting", "grounding", "display", "testing"},
    {"compression"},
    {"pipeline"},
    {"__init__"},
    {"evaluation", "serving", "adapters", "planning"},
    {"training"},
    {"cli"},
    {"__main__"},
]  # fmt: skip
MOST_LINES = 600
"""Of a module."""


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def statements_of(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements in a module or a statement, without their expressions."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, block, ()):
            yield child
            yield from statements_of(child)


def imports_of(path: Path) -> set[str]:
    """Rooms that a file imports, imports inside functions and for type checking included."""
    nodes = list(statements_of(ast.parse(path.read_text(encoding="utf-8"))))
    modules = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {room_of(module) for module in modules if module.split(".")[0] == "leanrag"}


def room_of_file(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = sorted(ROOT.rglob("*.py"))


def test_every_room_has_a_floor():
    assert {room_of_file(path) for path in FILES} <= set().union(*FLOORS)


def test_imports_go_down():
    upward = {}
    for path in FILES:
        room = room_of_file(path)
        floor = next(i for i, rooms in enumerate(FLOORS) if room in rooms)
        if too_high := imports_of(path) - set().union(*FLOORS[:floor], {room}):
            upward[str(path.relative_to(ROOT))] = too_high
    assert upward == {}


def test_a_module_can_be_read_in_one_sitting():
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_the_facade_is_thin():
    tree = ast.parse((ROOT / "pipeline" / "rag.py").read_text(encoding="utf-8"))
    rag = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Rag")
    assert rag.end_lineno - rag.lineno + 1 < 250
