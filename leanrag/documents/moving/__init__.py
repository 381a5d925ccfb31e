"""Readers of the folders of other libraries: their stored texts to `Document`s.

Texts, ids and metadata come along. Vectors do not: these folders do not say for certain which model made them, and leanrag embeds a
text together with its title and headings.
"""

from collections.abc import Callable, Iterator, Mapping

from leanrag.documents.moving.chroma import from_chroma as from_chroma
from leanrag.documents.moving.lancedb import from_lancedb as from_lancedb
from leanrag.documents.moving.langchain import from_langchain as from_langchain
from leanrag.documents.moving.llama_index import from_llama_index as from_llama_index
from leanrag.types import Document

LIBRARIES: Mapping[str, Callable[[str], Iterator[Document]]] = {
    "langchain": from_langchain,
    "llama-index": from_llama_index,
    "chroma": from_chroma,
    "lancedb": from_lancedb,
}
"""The readers by the name of the library."""
