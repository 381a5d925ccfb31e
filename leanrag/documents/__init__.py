"""Files to documents, and documents to chunks."""

from leanrag.documents.chunking import CodeChunker as CodeChunker
from leanrag.documents.chunking import DocumentChunker as DocumentChunker
from leanrag.documents.chunking import MarkdownChunker as MarkdownChunker
from leanrag.documents.chunking import RecursiveChunker as RecursiveChunker
from leanrag.documents.loading import find_files as find_files
from leanrag.documents.loading import load_file as load_file
from leanrag.documents.moving import from_chroma as from_chroma
from leanrag.documents.moving import from_lancedb as from_lancedb
from leanrag.documents.moving import from_langchain as from_langchain
from leanrag.documents.moving import from_llama_index as from_llama_index
