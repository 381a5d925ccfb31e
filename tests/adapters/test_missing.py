"""An adapter without its package says which extra installs it."""

import importlib
import importlib.util
import sys

import pytest

from leanrag import MissingDependencyError


@pytest.mark.parametrize(
    ("adapter", "package", "extra"),
    [
        ("haystack", "haystack", "haystack"),
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


@pytest.mark.parametrize(
    ("name", "address", "package", "extra"),
    [
        ("MilvusIndex", "http://localhost", "pymilvus", "milvus"),
        ("PgVectorIndex", "postgresql://localhost", "psycopg", "postgres"),
        ("PostgresLedger", "postgresql://localhost", "psycopg", "postgres"),
        ("QdrantIndex", "http://localhost", "qdrant_client", "qdrant"),
        ("RedisResults", "redis://localhost", "redis", "redis"),
    ],
)
def test_a_missing_package_names_its_extra_when_an_object_is_made(monkeypatch, name, address, package, extra):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each: None if each == package else find(each))
    with pytest.raises(MissingDependencyError, match=rf"leanrag\[{extra}\]"):
        getattr(importlib.import_module("leanrag.adapters"), name)(address)


@pytest.mark.parametrize("name", ["RayWorkers", "RayShards"])
def test_ray_is_needed_when_it_is_used(monkeypatch, name):
    import leanrag.adapters.ray

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"leanrag\[ray\]") as raised:
        getattr(leanrag.adapters.ray, name)()
    assert raised.value.extra == "ray"
