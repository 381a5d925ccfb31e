"""Bytes to text: byte order marks, what a file says of its own encoding, and UTF-8."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from leanrag.errors import ConfigurationError, DocumentError

__all__ = ["check_encoding", "decode", "looks_like_text"]

_HEAD = 2048  # bytes in which a file says what its encoding is
_MARKS = (  # longest first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARATIONS = (
    re.compile(rb"""^\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)"""),
    re.compile(rb"""<meta\s[^>]{0,500}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE),
    re.compile(rb"""^@charset\s+"([\w.:-]+)\""""),
    re.compile(
        rb"""\A(?:[^\n]*\n)?[ \t\f]*(?:#|//|/\*|;|%|--|\.\.)[^\n]*?(?:coding|encoding|charset)\s*[:=]\s*"?([-\w.]+)"""
    ),
    re.compile(rb"""^content-type:[^\n]{0,200}?charset\s*=\s*"?([\w.:-]+)""", re.IGNORECASE | re.MULTILINE),
)
# What browsers understand by a name: the larger set of characters, for files use it under the name of the smaller.
_LARGER = {
    "iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "gb2312": "gb18030",
    "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "tis-620": "cp874",
}  # fmt: skip
_ALIASES = {
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "ks_c_5601-1987": "cp949",
    "x-gbk": "gb18030",
    "unicode": "utf-16",
}


def check_encoding(encoding: str | None) -> str | None:
    """Return `encoding` if it names a text encoding of Python, or None.

    Raises:
        ConfigurationError: It names none.
    """
    if encoding is not None and _lookup(encoding) is None:
        raise ConfigurationError(
            f"`encoding` must be the name of a text encoding, such as 'utf-8' or 'cp1252', got {encoding!r}"
        )
    return encoding


def decode(data: bytes, path: Path, encoding: str | None = None) -> str:
    """Return the text of a file.

    In this order: a byte order mark, `encoding`, UTF-16 and UTF-32 without a mark, UTF-8, and the encoding that the file
    declares (`<meta charset>`, an XML declaration, a coding comment). UTF-8 comes first of the two: many declarations are
    copied from other files, and text of other encodings is hardly ever sound UTF-8.

    Raises:
        DocumentError: The bytes are not text in that encoding.
    """
    mark, found = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", None))
    name = found or encoding or _unmarked(data[:_HEAD], len(data))
    if name is not None:
        return _strict(data, len(mark), name, path)
    declared = _declared(data[:_HEAD])
    if declared is not None and b"\x1b" in data:
        return _strict(data, 0, declared, path)  # escapes of ISO 2022 are sound UTF-8, and other characters
    nul = data.find(b"\0")
    if nul >= 0:
        raise _binary_error(path, f"a NUL byte at offset {nul}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _strict(data, 0, declared or "utf-8", path)


def looks_like_text(head: bytes) -> bool:
    """Return whether `head`, the first bytes of a file, is the beginning of a text that `decode` reads."""
    if any(head.startswith(mark) for mark, _ in _MARKS) or _unmarked(head[:_HEAD], len(head)):
        return True
    if b"\0" in head:
        return False
    for name in ("utf-8", _declared(head[:_HEAD])):
        try:
            codecs.getincrementaldecoder(name or "utf-8")().decode(head)  # not final: a character may be cut at the end
        except UnicodeDecodeError:
            continue
        return True
    return False


def _lookup(name: str) -> str | None:
    """Return Python's name of a text encoding."""
    try:
        found = codecs.lookup(_ALIASES.get(name.lower(), name))
    except (LookupError, ValueError):
        return None
    return found.name if getattr(found, "_is_text_encoding", True) else None


def _declared(head: bytes) -> str | None:
    """Return the encoding that a file declares, None if it declares none that Python knows."""
    for pattern in _DECLARATIONS:
        if declaration := pattern.search(head):
            name = _lookup(declaration[1].decode("ascii", "ignore"))
            if name is not None and not name.startswith(("utf-16", "utf-32")):  # these words are read as single bytes
                return _LARGER.get(name, name)
    return None


def _unmarked(head: bytes, size: int) -> str | None:
    """Return the encoding of UTF-16 or UTF-32 text without a byte order mark, by where its zero bytes are."""
    for width, names in ((4, ("utf-32-le", "utf-32-be")), (2, ("utf-16-le", "utf-16-be"))):
        sample = head[: len(head) - len(head) % width]
        if not sample or size % width:
            continue
        zeros = [sample[i::width].count(0) * width / len(sample) for i in range(width)]
        for name, order in zip(names, (zeros, zeros[::-1]), strict=True):
            # Latin letters have zeros in all but the lowest byte; the lowest byte of a character is never zero in text.
            if order[0] == 0 and (order[-1] == order[-2] == 1 if width == 4 else order[-1] >= 0.25):
                text = sample.decode(name, "ignore")
                if all(character.isprintable() or character in "\t\n\r\f" for character in text):
                    return name
    return None


def _strict(data: bytes, skip: int, encoding: str, path: Path) -> str:
    try:
        text = data[skip:].decode(encoding)
    except UnicodeDecodeError as error:
        offset = error.start + skip
        shown = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        raise DocumentError(
            f"{str(path)!r} is not {shown}: byte 0x{data[offset]:02x} at offset {offset}. Save it as UTF-8, or name its"
            " encoding, as in `encoding='cp1252'`",
            path=path,
        ) from error
    if "\0" in text:
        raise _binary_error(path, "a NUL character")
    return text


def _binary_error(path: Path, what: str) -> DocumentError:
    return DocumentError(f"{str(path)!r} is not a text file: it contains {what}. Convert it to text first", path=path)
