"""Files and folders to `Document`s.

Text, Markdown, reStructuredText, HTML and source code are read with the standard library alone. The text of a plain file
is kept exactly as decoded (no newline is translated), so offsets are the file's own. HTML is turned into readable text
first; offsets of an HTML document point into that text (`Document.text`), not into the file.
"""

from __future__ import annotations

import codecs
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

from leanrag.errors import ConfigurationError, DocumentError
from leanrag.types import Document, DocumentKind

__all__ = ["MAX_BYTES", "can_load", "find_files", "html_to_text", "load_file"]

logger = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024 * 1024
_SNIFF_BYTES = 8192


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_JUNK_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})
_JUNK_FILES = frozenset({"desktop.ini", "thumbs.db"})

_MARKDOWN = ".md .markdown .mdown .mkd .rst"
_HTML = ".html .htm .xhtml"
_CODE = (
    ".bash .bat .c .cc .cfg .clj .cmake .cpp .cs .css .cu .cxx .dart .el .ex .exs .f90 .go .gradle .graphql .groovy .h"
    " .hpp .hs .ini .java .jl .js .json .jsonl .jsx .kt .kts .less .lua .m .mjs .ml .mm .php .pl .proto .ps1 .py .pyi .r"
    " .rb .rs .scala .scss .sh .sql .svelte .swift .tf .toml .ts .tsx .vue .xml .yaml .yml .zig .zsh"
)
_TEXT = ".txt .text .log .csv .tsv .tex .bib .adoc .org .srt .vtt"
_KINDS: dict[str, DocumentKind] = {
    **dict.fromkeys((_MARKDOWN + " " + _HTML).split(), "markdown"),
    **dict.fromkeys(_CODE.split(), "code"),
    **dict.fromkeys(_TEXT.split(), "text"),
}
_HTML_SUFFIXES = _words(_HTML)
# Formats that hold text which a converter could extract; some (.rtf, .ipynb) would pass for plain text.
_NOT_READ = _words(
    ".doc .docx .eml .epub .ipynb .key .mobi .msg .numbers .odp .ods .odt .pages .pdf .ppt .pptx .ps .rtf .xls .xlsx"
)


def find_files(path: str | Path, *, on_error: Callable[[DocumentError], None] | None = None) -> Iterator[Path]:
    """Return the regular files under a folder, sorted by name at each level; a file comes back alone.

    Hidden entries and well-known junk (`.git`, `node_modules`, `__pycache__`, `.venv`, ...) are left out. Symbolic links
    are followed; each real folder and each real file comes once, so loops end. Pipes, sockets and devices are left out.

    Args:
        path: A folder, or a file (taken even if its name is hidden).
        on_error: Called for each folder below `path` that cannot be listed; without it a warning is logged.

    Returns:
        Paths that begin with `path`, lazily; `path` itself is checked at once.

    Raises:
        DocumentError: `path` does not exist, is neither a file nor a folder, or cannot be listed.

    Example:
        >>> [file.name for file in find_files("docs")]  # doctest: +SKIP
        ['guide.md', 'intro.txt']
    """
    root = Path(path)
    mode = _status(root).st_mode
    if stat.S_ISREG(mode):
        return iter([root])
    if not stat.S_ISDIR(mode):
        raise DocumentError(f"{str(path)!r} is neither a file nor a folder; give one of these", path=root)
    entries = _list_folder(root)
    return _walk(root, entries, on_error or _log_error)


def can_load(path: str | Path) -> bool:
    """Return whether `load_file` has a reader for the file, from its suffix or, when that is unknown, its first bytes.

    True does not promise that the file is sound: a file that cannot be opened counts as readable, so that `load_file`
    gets to say why.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _KINDS or suffix in _NOT_READ:
        return suffix in _KINDS
    try:
        head = _read_bytes(Path(path), _SNIFF_BYTES, allow_more=True)
    except DocumentError:
        return True
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # not final: a character may be cut at the end
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def load_file(path: str | Path, *, title: str | None = None, max_bytes: int = MAX_BYTES) -> Document:
    """Read one file.

    Args:
        path: The file. Its suffix chooses `Document.kind` and, for HTML, the extraction of readable text; a file of
            unknown suffix is read as plain text if it is text.
        title: What a person calls it; the file name by default.
        max_bytes: Larger files are refused.

    Returns:
        A document whose `id` is the resolved absolute path in POSIX form and whose `source` is that path.

    Raises:
        ConfigurationError: `max_bytes` is not positive.
        DocumentError: The file is missing, unreadable, not a regular file, too large, empty, binary, in another
            encoding than UTF-8 (or UTF-16 with a byte order mark), or of a format that is not read.

    Example:
        >>> load_file("guide.md").kind  # doctest: +SKIP
        'markdown'
    """
    if max_bytes < 1:
        raise ConfigurationError(f"`max_bytes` must be at least 1, got {max_bytes!r}")
    try:
        file = Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise DocumentError(f"cannot read {str(path)!r}: {error}", path=path) from error
    suffix = file.suffix.lower()
    if suffix in _NOT_READ and stat.S_ISREG(_status(file).st_mode):
        raise DocumentError(
            f"cannot read {str(file)!r}: {suffix} files are not read in this version. Convert it to text, Markdown or"
            " HTML and add that file",
            path=file,
        )
    text = _decode(_read_bytes(file, max_bytes), file)
    if suffix in _HTML_SUFFIXES:
        text = html_to_text(text)
    if not text or text.isspace():
        raise DocumentError(f"{str(file)!r} holds no text; remove it or fill it", path=file)
    return Document(
        text=text,
        id=file.as_posix(),
        title=file.name if title is None else title,
        source=str(file),
        kind=_KINDS.get(suffix, "text"),
    )


def html_to_text(html: str) -> str:
    r"""Return the readable text of an HTML page as Markdown.

    Headings become `#` lines, list items `-` or `1.` lines, preformatted text fenced blocks and table rows `| a | b |`
    lines. Scripts, styles, navigation and form controls are dropped; entities are decoded; white space is collapsed.

    Example:
        >>> html_to_text("<h1>Caf&eacute;</h1><ul><li>one<li>two</ul>")
        '# Café\n\n- one\n- two\n'
    """
    return _HtmlReader().read(html)


# ------------------------------------------------------------------------------------------------------------- folders


def _status(path: Path) -> os.stat_result:
    """Return `path.stat()`, links followed."""
    try:
        return path.stat()
    except (OSError, ValueError) as error:
        raise DocumentError(f"cannot read {str(path)!r}: {error}", path=path) from error


def _list_folder(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DocumentError(f"cannot list the folder {str(folder)!r}: {error}", path=folder) from error


def _log_error(error: DocumentError) -> None:
    logger.warning("Skipped: %s", error)


def _is_junk(name: str) -> bool:
    return name.startswith((".", "~$")) or name in _JUNK_FOLDERS or name.lower() in _JUNK_FILES


def _walk(root: Path, entries: list[os.DirEntry[str]], on_error: Callable[[DocumentError], None]) -> Iterator[Path]:
    """Yield files depth first; a stack, not recursion: folders may nest deeper than Python calls."""
    seen = {os.path.realpath(root)}
    stack = [iter(entries)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        if _is_junk(entry.name):
            continue
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:
            on_error(DocumentError(f"cannot read {entry.path!r}: {error}", path=entry.path))
            continue
        if not (is_folder or is_file):
            continue
        real = os.path.realpath(entry.path)
        if real in seen:
            continue
        seen.add(real)
        if is_file:
            yield Path(entry.path)
            continue
        try:
            stack.append(iter(_list_folder(Path(entry.path))))
        except DocumentError as error:
            on_error(error)


# --------------------------------------------------------------------------------------------------------------- bytes


def _open_quickly(path: str, flags: int) -> int:
    """Open without waiting: were the file swapped for a pipe after the check, a plain open would block."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_bytes(path: Path, max_bytes: int, *, allow_more: bool = False) -> bytes:
    """Return the file's bytes; of a file larger than `max_bytes`, its head if `allow_more`."""
    mode = _status(path).st_mode
    if stat.S_ISDIR(mode):
        raise DocumentError(f"{str(path)!r} is a folder; give a file, or list its files with `find_files`", path=path)
    if not stat.S_ISREG(mode):
        raise DocumentError(f"{str(path)!r} is a pipe, socket or device; give a regular file", path=path)
    try:
        with open(path, "rb", opener=_open_quickly) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DocumentError(f"{str(path)!r} is no longer a regular file; add it again", path=path)
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise DocumentError(f"cannot read {str(path)!r}: {error}", path=path) from error
    if len(data) > max_bytes and not allow_more:
        size = max(status.st_size, len(data))
        raise DocumentError(
            f"{str(path)!r} is too large: {size:,} bytes, at most {max_bytes:,} are read. Split the file, or raise"
            " `max_bytes`",
            path=path,
        )
    return data[:max_bytes]


def _decode(data: bytes, path: Path) -> str:
    """Decode UTF-8, with or without a byte order mark, or UTF-16 with one."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding, skip = "utf-16", 0
    else:
        encoding, skip = "utf-8", len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
        nul = data.find(b"\0")
        if nul >= 0:
            raise _binary_error(path, f"a NUL byte at offset {nul}")
    try:
        text = data[skip:].decode(encoding)
    except UnicodeDecodeError as error:
        offset = error.start + skip
        raise DocumentError(
            f"{str(path)!r} is not {encoding.upper()}: byte 0x{data[offset]:02x} at offset {offset}. Save it as UTF-8,"
            " for example: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW",
            path=path,
        ) from error
    if "\0" in text:
        raise _binary_error(path, "a NUL character")
    return text


def _binary_error(path: Path, what: str) -> DocumentError:
    return DocumentError(f"{str(path)!r} is not a text file: it holds {what}. Convert it to text first", path=path)


# ---------------------------------------------------------------------------------------------------------------- HTML

_DROPPED = _words("button canvas iframe nav noscript object script select style svg template textarea title")
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_PARAGRAPHS = _words(
    "address article aside blockquote body details dl div fieldset figure footer form header hr html main ol p section"
    " ul"
)
_LINES = _words("caption dd dt figcaption li summary")
_MAX_TABLE_DEPTH = 8  # tables nested deeper are read as plain blocks
_FENCE = re.compile(r"`{3,}")
_MARKUP = re.compile(r"<(?:!--|[!?]|(?P<slash>/?)(?P<name>[a-zA-Z][^\s/>]*))")
_ATTRIBUTES = re.compile(r"""(?:[^"'>]|"[^"]*"|'[^']*')*>""")
_RAW = {tag: re.compile(rf"</{tag}(?=[\s/>])", re.IGNORECASE) for tag in ("script", "style", "textarea", "title")}


def _attribute(attributes: str, name: str) -> str:
    found = re.search(rf"""(?<![^\s"'/]){name}\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"']+))""", attributes, re.IGNORECASE)
    return unescape(found[found.lastindex or 0]) if found else ""


class _Writer:
    """Collects text with collapsed white space; breaks and leading marks wait for the next text."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.newlines = 0
        self.space = False
        self.lead = ""

    def break_line(self, newlines: int) -> None:
        self.newlines = max(self.newlines, newlines)
        self.space = False

    def write(self, text: str) -> None:
        words = text.split()
        if not words:
            self.space = self.space or bool(text)
            return
        self.space = self.space or text[0].isspace()
        if self.parts and self.newlines:
            self.parts.append("\n" * self.newlines)
        elif self.parts and self.space and not self.lead:
            self.parts.append(" ")
        self.parts.append(self.lead + " ".join(words))
        self.newlines, self.lead, self.space = 0, "", text[-1].isspace()

    def write_block(self, block: str) -> None:
        """Add `block` as it is, with blank lines around it."""
        self.break_line(2)
        if self.parts:
            self.parts.append("\n" * self.newlines)
        self.parts.append(self.lead + block)
        self.newlines, self.lead, self.space = 2, "", False

    def text(self) -> str:
        return "".join(self.parts)


class _Table:
    """Rows of cells, each cell as written so far; `headers` counts the header cells of the first row."""

    def __init__(self) -> None:
        self.rows: list[list[_Writer]] = []
        self.headers = 0
        self.in_cell = False
        self.has_blocks = False

    def open_cell(self, *, is_header: bool) -> None:
        if not self.rows:
            self.rows.append([])
        self.rows[-1].append(_Writer())
        self.headers += is_header and len(self.rows) == 1
        self.in_cell = True

    def write_to(self, out: _Writer) -> None:
        """Write rows as lines; a table that lays out a page (blocks in its cells) as these blocks."""
        rows = [[cell.text() for cell in row] for row in self.rows]
        rows = [row for row in rows if any(row)]
        if self.has_blocks:
            for cell in (cell for row in rows for cell in row if cell):
                out.write_block(cell)
        elif rows:
            lines = [f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" for row in rows]
            if self.headers == len(rows[0]):
                lines.insert(1, "|" + " --- |" * self.headers)
            out.write_block("\n".join(lines))


class _HtmlReader:
    """Writes the readable text of a page, in one linear pass, forgiving: unclosed tags are the rule in HTML.

    Not `html.parser`: releases before mid-2025 need quadratic time on some broken pages (CVE-2025-6069); a megabyte of
    `<a <a <a` keeps them busy for many minutes.
    """

    def __init__(self) -> None:
        self._page = _Writer()
        self._tables: list[_Table] = []
        self._extra_tables = 0  # open tables beyond _MAX_TABLE_DEPTH
        self._lists: list[int | None] = []  # the next number of each open list, None for bullets
        self._dropped = ""  # the tag whose content is dropped
        self._dropped_depth = 0
        self._pre: list[str] | None = None
        self._in_heading = False
        self._in_permalink = False
        self._trusts_quotes = True

    @property
    def _out(self) -> _Writer:
        for table in reversed(self._tables):
            if table.in_cell:
                return table.rows[-1][-1]
        return self._page

    def read(self, html: str) -> str:
        position: int | None = 0
        while position is not None and (markup := _MARKUP.search(html, position)):
            self._data(html[position : markup.start()])
            position = self._markup(html, markup)
        if position is not None:
            self._data(html[position:])
        self._end_pre()
        while self._tables:
            self._end_table()
        text = self._page.text()
        return text + "\n" if text else ""

    def _markup(self, html: str, markup: re.Match[str]) -> int | None:
        """Act on one comment, declaration or tag; return where it ends, None when it is never closed."""
        if markup["name"] is None:
            closing = "-->" if markup[0] == "<!--" else ">"
            end = html.find(closing, markup.end())
            return None if end < 0 else end + len(closing)
        end = self._tag_end(html, markup.end())
        if end < 0:
            return None
        tag, attributes = markup["name"].lower(), html[markup.end() : end - 1]
        if markup["slash"]:
            self._end_tag(tag)
        elif tag not in _DROPPED:
            self._start_tag(tag, attributes)
        elif tag in _RAW:
            closing_tag = _RAW[tag].search(html, end)
            return None if closing_tag is None else closing_tag.start()
        elif not attributes.endswith("/"):
            self._drop(tag)
        return end

    def _tag_end(self, html: str, position: int) -> int:
        """Return where a tag ends, with a `>` in quotes passed over; -1 when it does not."""
        if self._trusts_quotes:
            if quoted := _ATTRIBUTES.match(html, position):
                return quoted.end()
            self._trusts_quotes = False  # an unpaired quote: from here on the nearest `>` closes a tag
        return html.find(">", position) + 1 or -1

    def _drop(self, tag: str) -> None:
        if not self._dropped:
            self._dropped = tag
        self._dropped_depth += tag == self._dropped

    def _start_tag(self, tag: str, attributes: str) -> None:
        if self._dropped:
            return
        if tag == "a":
            classes = _attribute(attributes, "class").split()
            self._in_permalink = "headerlink" in classes or "anchor" in classes
        elif self._pre is None:
            self._start(tag, attributes)
        elif tag == "br":
            self._pre.append("\n")

    def _end_tag(self, tag: str) -> None:
        if self._dropped:
            self._dropped_depth -= tag == self._dropped
            if not self._dropped_depth:
                self._dropped = ""
        elif tag == "a":
            self._in_permalink = False
        elif tag == "pre":
            self._end_pre()
        elif self._pre is None:
            self._end(tag)

    def _data(self, data: str) -> None:
        if self._dropped or not data or (self._in_heading and self._in_permalink):
            return
        if self._pre is not None:
            self._pre.append(unescape(data))
        else:
            self._out.write(unescape(data))

    def _start(self, tag: str, attributes: str) -> None:
        if tag in {"table", "tr", "td", "th"}:
            self._start_table_part(tag)
        elif tag == "pre":
            self._pre = []
        elif tag == "br":
            if self._in_heading:
                self._out.write(" ")
            else:
                self._out.break_line(1)
        elif tag in _HEADINGS:
            self._mark_blocks()
            self._out.break_line(2)
            self._out.lead = "#" * _HEADINGS[tag] + " "
            self._in_heading = True
        elif tag == "li":
            self._start_item()
        elif tag in _LINES:
            self._out.break_line(1)
        elif tag in _PARAGRAPHS:
            self._out.break_line(1 if self._lists else 2)
            if tag in {"ul", "ol"}:
                first = _attribute(attributes, "start")
                self._lists.append(None if tag == "ul" else int(first) if first.isdecimal() and len(first) < 10 else 1)

    def _end(self, tag: str) -> None:
        if tag in {"table", "tr", "td", "th"}:
            self._end_table_part(tag)
        elif tag in _HEADINGS:
            self._out.break_line(2)
            self._out.lead = ""
            self._in_heading = False
        elif tag in _LINES:
            self._out.break_line(1)
            self._out.lead = ""
        elif tag in _PARAGRAPHS:
            if tag in {"ul", "ol"} and self._lists:
                self._lists.pop()
            self._out.break_line(1 if self._lists else 2)

    def _start_item(self) -> None:
        self._out.break_line(1)
        mark = "- "
        if self._lists and self._lists[-1] is not None:
            mark = f"{self._lists[-1]}. "
            self._lists[-1] += 1
        self._out.lead = "  " * min(len(self._lists) - 1, 8) + mark

    def _end_pre(self) -> None:
        if self._pre is None:
            return
        block = "".join(self._pre).strip("\r\n")
        self._pre = None
        if block and not block.isspace():
            self._mark_blocks()
            fence = "`" * max((len(run) + 1 for run in _FENCE.findall(block)), default=3)
            self._out.write_block(f"{fence}\n{block}\n{fence}")

    def _mark_blocks(self) -> None:
        for table in self._tables:
            table.has_blocks = True

    def _start_table_part(self, tag: str) -> None:
        if tag == "table":
            self._out.break_line(2)
            if len(self._tables) == _MAX_TABLE_DEPTH:
                self._extra_tables += 1
                return
            self._mark_blocks()
            self._tables.append(_Table())
        elif not self._tables or self._extra_tables:
            self._out.break_line(1)
        elif tag == "tr":
            self._tables[-1].rows.append([])
            self._tables[-1].in_cell = False
        else:
            self._tables[-1].open_cell(is_header=tag == "th")

    def _end_table_part(self, tag: str) -> None:
        if self._extra_tables:
            self._extra_tables -= tag == "table"
        elif self._tables:
            self._tables[-1].in_cell = False
            if tag == "table":
                self._end_table()

    def _end_table(self) -> None:
        table = self._tables.pop()
        table.write_to(self._out)
