"""An adapter without its package says which extra installs it."""

import importlib
import sys

import pytest

from leanrag import MissingDependencyError


@pytest.mark.parametrize(
    ("adapter", "package", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("llama_index", "llama_index", "llama-index"),
        ("mcp", "mcp", "mcp"),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, adapter, package, extra):
    monkeypatch.delitem(sys.modules, f"leanrag.adapters.{adapter}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"leanrag\[{extra}\]") as raised:
        importlib.import_module(f"leanrag.adapters.{adapter}")
    assert (raised.value.package.split(".")[0], raised.value.extra) == (package, extra)
