"""Published embedders get the texts before queries and documents that they were trained with."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import leanrag
from leanrag import ConfigurationError
from leanrag.llama.embedding_prefixes import find_prefixes
from leanrag.testing import HashEmbedder

BGE = "Represent this sentence for searching relevant passages: "
NOMIC = ("search_query: ", "search_document: ")


def prefixes(file="model", architecture="bert", **metadata):
    return find_prefixes(SimpleNamespace(path=Path(file + ".gguf"), architecture=architecture, metadata=metadata))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nomic-embed-text-v1.5", NOMIC),
        ("Nomic Embed Text v2 Moe", NOMIC),
        ("e5-small-v2", ("query: ", "passage: ")),
        ("multilingual-e5-base", ("query: ", "passage: ")),
        ("bge-small-en-v1.5", (BGE, "")),
        ("Bge Large En v1.5", (BGE, "")),
        ("bge-m3", ("", "")),
        ("mxbai-embed-large-v1", (BGE, "")),
        ("snowflake-arctic-embed-m-v2.0", ("query: ", "")),
        ("snowflake-arctic-embed-s", (BGE, "")),
        ("all-MiniLM-L6-v2", ("", "")),
        ("granite-embedding-30m", ("", "")),
        ("the5-small", ("", "")),
    ],
)
def test_the_name_of_a_model_decides(name, expected):
    assert prefixes(**{"general.name": name}) == expected
    assert prefixes(file=f"{name}.Q8_0") == expected


def test_what_the_file_says_goes_before_its_name_and_its_architecture():
    written = {"leanrag.query_prefix": "q: ", "general.name": "e5-small-v2"}
    assert prefixes(architecture="nomic-bert", **written) == ("q: ", "")
    assert prefixes(architecture="nomic-bert", **{"general.name": "mine"}) == NOMIC


def test_the_prefixes_of_an_embedder_object_are_its_own_affair(tmp_path):
    with pytest.raises(ConfigurationError, match="query_prefix"):
        leanrag.open(tmp_path, embedder=HashEmbedder(), query_prefix="q: ")
