"""The texts that published embedding models expect before queries and documents. A GGUF file does not say them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from leanrag.llama.files import GGUFInfo

__all__ = ["find_prefixes"]

_Prefixes = tuple[str, str]

# From the model cards: a pattern of the name, the prefix of queries and that of documents. The first pattern that fits counts.
_KNOWN: Sequence[tuple[str, _Prefixes]] = (
    (r"nomic-embed-(text|vision)", ("search_query: ", "search_document: ")),
    (r"nomic-embed-code", ("Represent this query for searching relevant code: ", "")),
    (
        r"e5-.*instruct",
        ("Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ", ""),
    ),
    (r"(multilingual-)?e5-(small|base|large)", ("query: ", "passage: ")),
    (r"bge-(small|base|large)-en", ("Represent this sentence for searching relevant passages: ", "")),
    (r"bge-(small|base|large)-zh", ("为这个句子生成表示以用于检索相关文章：", "")),
    (r"mxbai-embed-(large|xsmall)", ("Represent this sentence for searching relevant passages: ", "")),
    (r"(snowflake-)?arctic-embed-.*v2", ("query: ", "")),
    (r"(snowflake-)?arctic-embed", ("Represent this sentence for searching relevant passages: ", "")),
    (r"embedding-?gemma", ("task: search result | query: ", "title: none | text: ")),
    (
        r"qwen3-embedding",
        ("Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:", ""),
    ),
)
_ARCHITECTURES: Mapping[str, _Prefixes] = {
    "nomic-bert": ("search_query: ", "search_document: "),
    "nomic-bert-moe": ("search_query: ", "search_document: "),
    "gemma-embedding": ("task: search result | query: ", "title: none | text: "),
}


def find_prefixes(info: GGUFInfo) -> _Prefixes:
    """Return the text before each query and the text before each document; "" for a model that expects none.

    `convert_bert` writes them into the file. For other files, the name of the model decides, or its architecture.
    """
    written = [info.metadata.get(f"leanrag.{role}_prefix") for role in ("query", "document")]
    if any(isinstance(text, str) for text in written):
        query, document = (text if isinstance(text, str) else "" for text in written)
        return query, document
    names = [info.metadata.get("general.name"), info.metadata.get("general.basename"), info.path.stem]
    for name in names:
        words = re.sub(r"[\s_]+", "-", name.lower()) if isinstance(name, str) else ""
        for pattern, prefixes in _KNOWN:
            if re.search(rf"(?<![a-z0-9]){pattern}", words):
                return prefixes
    return _ARCHITECTURES.get(info.architecture, ("", ""))
