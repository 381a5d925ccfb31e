r"""LaTeX (.tex) to Markdown, and bibliographies (.bib) to a paragraph for each entry: what a reader of the printed page sees."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from leanrag.documents.decoding import decode
from leanrag.documents.formats.parts import markdown_table
from leanrag.types import Document

__all__ = ["read_bibliography", "read_latex"]

_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_BODY = re.compile(r"\\begin\s*\{document\}(.*?)(?:\\end\s*\{document\}|\Z)", re.DOTALL)
_MOST = 50_000  # characters of a table, a listing or an entry
_BLOCK = re.compile(
    r"\\begin\{(?P<name>verbatim|lstlisting|minted|tabular[x*]?|longtable|array)\*?\}"
    rf"(?:\{{[^{{}}]*\}}|\[[^\]]*\]){{0,3}}(?P<text>.{{0,{_MOST}}}?)\\end\{{(?P=name)\*?\}}",
    re.DOTALL,
)
_LISTINGS = ("verbatim", "lstlisting", "minted")
_BEGIN = re.compile(r"\\(?:begin|end)\{[^{}]*\}(?:\{[^{}]*\}|\[[^\]]*\])*")
_RULES = re.compile(
    r"\\(?:hline|toprule|midrule|bottomrule|endhead|endfoot|c(?:line|midrule)\s*(?:\([^()]*\))?\{[^{}]*\})"
)
_ROW_END = re.compile(r"\\\\(?:\[[^\]]*\])?|\\tabularnewline")
_CELL_END = re.compile(r"(?<!\\)&")
_ACCENT = re.compile(r"\{?\\([`'^\"~=.])\s*\{?\\?([A-Za-z])\}?\}?|\{?\\([cvHukr])\s*\{([A-Za-z])\}\}?")
_GROUPED = re.compile(r"(?<=\d)\\,(?=\d{3}(?!\d))")
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?\s*(?:\[[^\[\]]*\])*\{([^{}]*)\}")
_BARE = re.compile(r"\\([A-Za-z]+)\*?(?:\[[^\[\]\n]*\])?[ \t]*")
_ITEM = re.compile(r"(?:[ \t]{0,40}\n)?[ \t]{0,40}\\item\b[ \t]*(?:\[([^\[\]\n]*)\])?[ \t]*")
_BRACKETS = re.compile(r"\\.|[{}]", re.DOTALL)
_SPACES = re.compile(r"[ \t]+")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_MAX_DEPTH = 8  # of commands in commands

_MARKS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307"}
_MARKS |= {"c": "\u0327", "v": "\u030c", "H": "\u030b", "u": "\u0306", "k": "\u0328", "r": "\u030a"}
_LEVELS = {"part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "paragraph": 5}
_LETTERS = {
    "ss": "ß",
    "o": "ø",
    "O": "Ø",
    "aa": "å",
    "AA": "Å",
    "ae": "æ",
    "AE": "Æ",
    "l": "ł",
    "L": "Ł",
    "i": "i",
    "ldots": "…",
}
_SIGNS = {"ge": "≥", "geq": "≥", "le": "≤", "leq": "≤", "times": "×", "pm": "±", "approx": "≈", "neq": "≠", "cdot": "·"}
_SIGNS |= {"and": "; "}
_SILENT = frozenset(
    """documentclass usepackage newcommand renewcommand bibliographystyle bibliography input include includegraphics label vspace
    hspace setlength pagestyle thispagestyle setcounter begin end color hypersetup graphicspath maketitle tableofcontents centering
    noindent newpage clearpage bigskip medskip smallskip hline small large footnotesize scriptsize tiny par quad qquad left right
    displaystyle bfseries itshape""".split()
)
_PLAIN = {
    r"\,": " ",
    r"\;": " ",
    r"\:": " ",
    r"\!": "",
    r"\ ": " ",
    r"\%": "%",
    r"\&": "&",
    r"\$": "\0",
    r"\#": "#",
    r"\_": "_",
}
_PLAIN_LATER = {"$": "", "\0": "$", "---": "—", "--": "–", "``": '"', "''": '"', "~": " ", "{": "", "}": ""}
_ENTRY = re.compile(r"@(\w{1,40})\s*\{\s*([^,\s{}]{0,200})\s*,")
_FIELD = re.compile(r"\s*([A-Za-z][\w-]{0,40})\s*=\s*")
_FIELDS_FIRST = ("title", "author", "editor", "year", "date")


def read_latex(data: bytes, path: Path, encoding: str | None = None) -> Document:
    r"""Read a file; its `\title` is the title of the document."""
    source = decode(data, path, encoding).replace("\r\n", "\n")
    titles = {name: _argument(_COMMENT.sub("", source), name) for name in ("title", "author", "date")}
    body = _BODY.search(source)
    text = _to_markdown(body[1] if body else source)
    head = "\n".join(filter(None, (titles["title"] and f"# {titles['title']}\n", titles["author"], titles["date"])))
    return Document(
        f"{head}\n\n{text}\n".lstrip("\n") if text else head, path.as_posix(), title=titles["title"], kind="markdown"
    )


def read_bibliography(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read the entries, title and author first; a file without an entry is read as plain text."""
    text = decode(data, path, encoding)
    entries = "\n\n".join("\n".join(lines) for lines in _entries(text))
    return Document(f"{entries}\n" if entries else text, id=path.as_posix(), kind="text")


def _argument(source: str, command: str) -> str:
    """The argument of the first use of a command, as plain text."""
    found = re.search(rf"\\{command}\s*(?:\[[^\]]*\])?\{{", source)
    words = _plain(source[found.end() : _closing(source, found.end())]).split() if found else []
    return " ".join(words).replace(" ;", ";")


def _closing(text: str, start: int) -> int:
    """Where the bracket closes that was opened before `start`; the end of what is read if it does not."""
    depth = 1
    for found in _BRACKETS.finditer(text, start, start + _MOST):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if not depth:
            return found.start()
    return min(len(text), start + _MOST)


def _to_markdown(source: str) -> str:
    pieces: list[str] = []
    end = 0
    for found in _BLOCK.finditer(source):
        is_listing = found["name"] in _LISTINGS
        block = f"```\n{found['text'].strip(chr(10))}\n```" if is_listing else _table(found["text"])
        pieces += _prose(source[end : found.start()]), f"\n{block}\n"
        end = found.end()
    pieces.append(_prose(source[end:]))
    return _BLANK_LINES.sub("\n\n", "\n".join(pieces)).strip()


def _prose(source: str) -> str:
    source = _BEGIN.sub("\n", _COMMENT.sub("", source))
    text = _ITEM.sub(lambda found: f"\n- {found[1]}: " if found[1] else "\n- ", source)
    return "\n".join(_SPACES.sub(" ", line).strip() for line in _plain(text).split("\n"))


def _table(source: str) -> str:
    rows = [_CELL_END.split(row) for row in _ROW_END.split(_RULES.sub("", _COMMENT.sub("", source))) if row.strip()]
    return markdown_table([[_plain(cell) for cell in row] for row in rows])


def _plain(text: str) -> str:
    """Return text without commands, their arguments kept."""
    if "\\" in text:
        text = _ACCENT.sub(_letter, text)
        text = _GROUPED.sub("", text.replace("\\\\", "\n"))
        for sign, plain in _PLAIN.items():
            text = text.replace(sign, plain)
        for _ in range(_MAX_DEPTH):
            changed = _COMMAND.sub(_replace, text)
            if changed == text:
                break
            text = changed
        text = _BARE.sub(_word, text)
    for sign, plain in _PLAIN_LATER.items():
        text = text.replace(sign, plain)
    return text


def _letter(found: re.Match[str]) -> str:
    mark, letter = found[1] or found[3], found[2] or found[4]
    return unicodedata.normalize("NFC", letter + _MARKS[mark])


def _replace(found: re.Match[str]) -> str:
    name, argument = found[1], found[2]
    if name in _LEVELS:
        return f"\n\n{'#' * _LEVELS[name]} {' '.join(argument.split())}\n\n"
    if name in _SILENT:
        return ""
    if "cite" in name:
        return f"[{argument}]"
    if name == "bibitem":
        return f"\n- [{argument}] "
    if name == "footnote":
        return f" ({argument})"
    return f"\n\n{argument}\n\n" if name == "caption" else argument


def _word(found: re.Match[str]) -> str:
    name = found[1]
    if name in _SILENT:
        return " "
    return _LETTERS.get(name) or _SIGNS.get(name) or f"{name} "


def _entries(text: str) -> Iterator[list[str]]:
    """Yield the lines of each entry."""
    for found in _ENTRY.finditer(text):
        if found[1].lower() in ("comment", "preamble", "string"):
            continue
        fields = dict(_fields(text[found.end() : _closing(text, found.end())]))
        names = sorted(
            fields, key=lambda name: _FIELDS_FIRST.index(name) if name in _FIELDS_FIRST else len(_FIELDS_FIRST)
        )
        lines = [f"{name.capitalize()}: {fields[name]}" for name in names if fields[name]]
        yield [*lines, f"Type: {found[1].lower()}", f"Key: {found[2]}"]


def _fields(source: str) -> Iterator[tuple[str, str]]:
    position = 0
    while found := _FIELD.match(source, position):
        start = found.end()
        opening = source[start : start + 1]
        if opening == "{":
            start, end = start + 1, _closing(source, start + 1)
        elif opening == '"':
            start, end = start + 1, source.find('"', start + 1)
        else:
            end = source.find(",", start)
        end = len(source) if end < 0 else end
        value = _plain(source[start:end])
        yield (
            found[1].lower(),
            " ".join(value.replace(" and ", "; ").split() if found[1].lower() == "author" else value.split()),
        )
        comma = source.find(",", end)
        position = comma + 1 if comma >= 0 else len(source)
