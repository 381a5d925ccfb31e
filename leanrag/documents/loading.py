"""Files to `Document`s: the suffix of a file chooses its reader, of `guide.md.gz` the suffix `.md`.

The text of a plain file, of Markdown and of source code is kept exactly as decoded (no newline is translated), so offsets
are the file's own. Other formats (PDF, Office files, HTML, mails, notebooks, ...) are turned into readable text first; offsets
of such a document point into that text (`Document.text`), not into the file, and its marks say where its pages, slides or
sheets begin.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from leanrag.checks import check_whole
from leanrag.documents.decoding import check_encoding, looks_like_text
from leanrag.documents.finding import file_status, find_files
from leanrag.documents.formats.calendar import read_calendar
from leanrag.documents.formats.chat_export import read_json
from leanrag.documents.formats.compressed import GZIP_SUFFIX, unpack, unpack_head
from leanrag.documents.formats.epub import read_epub
from leanrag.documents.formats.feed import read_feed
from leanrag.documents.formats.html import html_to_text, read_html
from leanrag.documents.formats.latex import read_bibliography, read_latex
from leanrag.documents.formats.light_markup import read_asciidoc, read_org
from leanrag.documents.formats.mail import read_mail, read_mailbox
from leanrag.documents.formats.markdown import read_markdown
from leanrag.documents.formats.notebook import read_notebook
from leanrag.documents.formats.opendocument import read_opendocument
from leanrag.documents.formats.pdf import read_pdf
from leanrag.documents.formats.plain import read_code, read_text
from leanrag.documents.formats.rich_text import read_rich_text
from leanrag.documents.formats.sheets import read_sheets
from leanrag.documents.formats.slides import read_slides
from leanrag.documents.formats.subtitles import read_subtitles
from leanrag.documents.formats.word import read_word
from leanrag.errors import DocumentError, LeanRAGError
from leanrag.protocols import DocumentReader
from leanrag.types import Document

__all__ = ["HEAVY_READERS", "MAX_BYTES", "READERS", "can_load", "find_files", "html_to_text", "is_heavy", "load_file"]

MAX_BYTES = 64 * 1024 * 1024
_SNIFF_BYTES = 8192

_CODE = (
    ".bash .bat .c .cc .cfg .clj .cmake .cpp .cs .css .cu .cxx .dart .el .ex .exs .f90 .go .gradle .graphql .groovy .h"
    " .hpp .hs .ini .java .jl .js .jsx .kt .kts .less .lua .m .mjs .ml .mm .php .pl .proto .ps1 .py .pyi .r"
    " .rb .rs .scala .scss .sh .sql .svelte .swift .tf .toml .ts .tsx .vue .yaml .yml .zig .zsh"
)
_TEXT = ".txt .text .log .csv .tsv .jsonl .ndjson"

HEAVY_READERS: Mapping[str, DocumentReader] = {
    ".pdf": read_pdf,
    ".docx": read_word,
    ".pptx": read_slides,
    ".xlsx": read_sheets,
    ".epub": read_epub,
    **dict.fromkeys((".odt", ".odp", ".ods"), read_opendocument),
    ".rtf": read_rich_text,
}
"""The readers of formats that take long and can be made to take too much; see `leanrag.documents.parsing`."""

READERS: Mapping[str, DocumentReader] = {
    **HEAVY_READERS,
    **dict.fromkeys(_TEXT.split(), read_text),
    **dict.fromkeys(_CODE.split(), read_code),
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".rst"), read_markdown),
    **dict.fromkeys((".html", ".htm", ".xhtml"), read_html),
    **dict.fromkeys((".srt", ".vtt", ".sbv"), read_subtitles),
    **dict.fromkeys((".ics", ".ifb", ".vcf", ".vcard"), read_calendar),
    **dict.fromkeys((".adoc", ".asciidoc"), read_asciidoc),
    ".org": read_org,
    ".json": read_json,
    **dict.fromkeys((".rss", ".atom", ".xml"), read_feed),
    ".tex": read_latex,
    ".bib": read_bibliography,
    ".eml": read_mail,
    ".mbox": read_mailbox,
    ".ipynb": read_notebook,
}
"""The reader of each suffix. A file of another suffix is read as plain text if it is text."""

# Formats that hold text which a converter could extract; some (.ps) would pass for plain text.
_NOT_READ = frozenset(".doc .key .mobi .msg .numbers .pages .ppt .ps .xls".split())


def is_heavy(path: Path, readers: Mapping[str, DocumentReader]) -> bool:
    """Return whether the reader of a file is one of `HEAVY_READERS`."""
    suffix = path.suffix.lower()
    return suffix in HEAVY_READERS and readers.get(suffix) is HEAVY_READERS[suffix]


def can_load(path: str | Path, *, readers: Mapping[str, DocumentReader] = READERS) -> bool:
    """Return whether `load_file` has a reader for the file, from its suffix or, when that is unknown, its first bytes.

    True does not promise that the file is sound: a file that cannot be opened counts as readable, so that `load_file`
    gets to say why.
    """
    file = Path(path)
    content_file = _content_file(file, readers)
    suffix, is_compressed = content_file.suffix.lower(), content_file != file
    if suffix in readers or suffix in _NOT_READ:
        return suffix in readers and not (is_compressed and is_heavy(content_file, readers))
    try:
        head = _read_bytes(file, _SNIFF_BYTES, allow_more=True)
        return looks_like_text(unpack_head(head, _SNIFF_BYTES) if is_compressed else head)
    except (DocumentError, zlib.error):
        return True


def _content_file(path: Path, readers: Mapping[str, DocumentReader]) -> Path:
    """Return the name of the file that `path` contains, "guide.md" for "guide.md.gz"; `path` if it is not compressed."""
    is_compressed = path.suffix.lower() == GZIP_SUFFIX and GZIP_SUFFIX not in readers
    return path.with_suffix("") if is_compressed else path


def load_file(
    path: str | Path,
    *,
    title: str | None = None,
    default_title: str | None = None,
    encoding: str | None = None,
    max_bytes: int = MAX_BYTES,
    readers: Mapping[str, DocumentReader] = READERS,
) -> Document:
    """Read one file.

    Args:
        path: The file. Its suffix chooses the reader; a file of unknown suffix is read as plain text if it is text. A file that
            ends with ".gz" is unpacked first, and the suffix before ".gz" chooses the reader.
        title: What a person calls it. By default the title that the file has itself (of a page, a mail, front matter).
        default_title: The title of a file that has none; the file name by default.
        encoding: Encoding of a file without a byte order mark. By default UTF-8, or what the file declares.
        max_bytes: Larger files are refused, and compressed files whose content is larger.
        readers: The reader of each suffix.

    Returns:
        A document whose `id` is the resolved absolute path in POSIX form and whose `source` is that path.

    Raises:
        ConfigurationError: `max_bytes` is not positive, or `encoding` names no text encoding.
        DocumentError: The file is missing, unreadable, not a regular file, too large, empty, binary, encrypted, damaged, in an
            unknown encoding, or of a format that is not read; or its reader raised any other error, which is the cause.
        MissingDependencyError: The format needs the extra `files`.

    Example:
        >>> load_file("guide.md").kind  # doctest: +SKIP
        'markdown'
    """
    check_whole(1, max_bytes=max_bytes)
    check_encoding(encoding)
    try:
        file = Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise DocumentError(f"cannot read {str(path)!r}: {error}", path=path) from error
    content_file = _content_file(file, readers)
    suffix, is_compressed = content_file.suffix.lower(), content_file != file
    if is_compressed and (suffix in _NOT_READ or is_heavy(content_file, readers)):
        raise DocumentError(
            f"cannot read {str(file)!r}: only text files may be compressed, and it contains a {suffix} file. Unpack it, and add"
            " what it contains",
            path=file,
        )
    if suffix not in readers and suffix in _NOT_READ and stat.S_ISREG(file_status(file).st_mode):
        raise DocumentError(
            f"cannot read {str(file)!r}: {suffix} files are not read. Save it as PDF, or in another format that is read,"
            " and add that file",
            path=file,
        )
    data = _read_bytes(file, max_bytes)
    if is_compressed:
        data = unpack(data, file, max_bytes)
    with _reading(file):
        document = readers.get(suffix, read_text)(data, file, encoding)
    if not document.text or document.text.isspace():
        raise DocumentError(f"{str(file)!r} contains no text. Remove the file, or write text into it", path=file)
    if title is None:
        title = document.title or (file.name if default_title is None else default_title)
    return dataclasses.replace(document, id=file.as_posix(), title=title, source=str(file))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on a file into `DocumentError`."""
    try:
        yield
    except LeanRAGError:
        raise
    except MemoryError as error:
        raise DocumentError(
            f"cannot read {str(path)!r}: it needs more memory than a file may take. Split the file", path=path
        ) from error
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"[:300]
        raise DocumentError(
            f"{str(path)!r} is damaged or not of the format that its name says ({problem}). Open it in the program that"
            " made it, and save it again",
            path=path,
        ) from error


def _open_quickly(path: str, flags: int) -> int:
    """Open without waiting: were the file swapped for a pipe after the check, a plain open would block."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_bytes(path: Path, max_bytes: int, *, allow_more: bool = False) -> bytes:
    """Return the file's bytes; of a file larger than `max_bytes`, its head if `allow_more`."""
    mode = file_status(path).st_mode
    if stat.S_ISDIR(mode):
        raise DocumentError(f"{str(path)!r} is a folder; pass a file, or list its files with `find_files`", path=path)
    if not stat.S_ISREG(mode):
        raise DocumentError(f"{str(path)!r} is a pipe, socket or device; pass a regular file", path=path)
    try:
        with open(path, "rb", opener=_open_quickly) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DocumentError(f"{str(path)!r} is not a regular file any more. Add it again", path=path)
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise DocumentError(f"cannot read {str(path)!r}: {error.strerror or error}", path=path) from error
    if len(data) > max_bytes and not allow_more:
        size = max(status.st_size, len(data))
        raise DocumentError(
            f"{str(path)!r} is too large: {size:,} bytes, at most {max_bytes:,} are read. Split the file, or read"
            " it with `leanrag.documents.load_file(path, max_bytes=...)` and add the document",
            path=path,
        )
    return data[:max_bytes]
