import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import leanrag

WINGS = sorted(leanrag._WINGS - {"types"})
OLD = [(name, wing) for wing, names in leanrag._MOVED.items() for name in names.split()]


def test_every_public_name_resolves_to_the_object_of_its_home():
    for name in leanrag.__all__:
        module = importlib.import_module(leanrag._MODULES[name])
        assert getattr(leanrag, name) is getattr(module, name)
        assert name in getattr(module, "__all__", vars(module))


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(leanrag.__file__).read_text(encoding="utf-8"))
    seen = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("leanrag")
        for alias in node.names
    }
    public = {(leanrag._MODULES[name], name) for name in leanrag.__all__}
    assert seen == public | {("leanrag", wing) for wing in leanrag._WINGS}


def test_the_face_is_small():
    assert 40 <= len(leanrag.__all__) <= 50


@pytest.mark.parametrize(("name", "wing"), OLD)
def test_a_name_that_moved_to_a_wing_still_resolves(name, wing):
    assert getattr(leanrag, name) is getattr(importlib.import_module(f"leanrag.{wing}"), name)
    assert name not in leanrag.__all__


@pytest.mark.parametrize("wing", [*WINGS, "compression.lingua", "routing.calibration"])
def test_a_wing_shows_what_its_rooms_make_public(wing):
    face = importlib.import_module(f"leanrag.{wing}")
    rooms = {module.name for module in pkgutil.iter_modules(face.__path__)}
    names = [name for name in vars(face) if not name.startswith("_") and name not in rooms]
    assert names
    for name in names:
        home = getattr(getattr(face, name), "__module__", None) or ""
        if home.startswith("leanrag."):  # not a type alias
            assert name in importlib.import_module(home).__all__


@pytest.mark.slow
def test_the_wings_need_no_import_of_their_own():
    code = f"import leanrag; print(*(getattr(leanrag, wing).__name__ for wing in {WINGS}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [f"leanrag.{wing}" for wing in WINGS]
    assert set(WINGS) <= set(dir(leanrag))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        leanrag.nonsense  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'RoutingError'"):
        from leanrag import RoutingError  # noqa: F401


def test_dir_lists_the_public_names():
    assert set(leanrag.__all__) <= set(dir(leanrag))
    assert {"open", "Answer", "LeanRAGError"} <= set(leanrag.__all__)
