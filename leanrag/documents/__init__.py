"""Files to documents, and documents to chunks."""

from leanrag.documents.chunking import CodeChunker as CodeChunker
from leanrag.documents.chunking import DocumentChunker as DocumentChunker
from leanrag.documents.chunking import MarkdownChunker as MarkdownChunker
from leanrag.documents.chunking import RecursiveChunker as RecursiveChunker
from leanrag.documents.loading import find_files as find_files
from leanrag.documents.loading import load_file as load_file
