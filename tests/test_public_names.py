import ast
import importlib
from pathlib import Path

import pytest

import leanrag


def test_every_public_name_resolves_to_the_object_of_its_home():
    for name in leanrag.__all__:
        home = importlib.import_module(leanrag._HOME[name])
        assert getattr(leanrag, name) is getattr(home, name)
        assert name in home.__all__


def test_what_type_checkers_see_is_what_resolves():
    tree = ast.parse(Path(leanrag.__file__).read_text(encoding="utf-8"))
    seen = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("leanrag.")
        for alias in node.names
    }
    assert seen == {(home, name) for name, home in leanrag._HOME.items()}


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        leanrag.nonsense  # noqa: B018


def test_dir_lists_the_public_names():
    assert set(leanrag.__all__) <= set(dir(leanrag))
