"""Books (.epub): the chapters in reading order, as Markdown."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from zipfile import ZipFile

from leanrag.documents.decoding import decode
from leanrag.documents.formats.archives import encrypted_error, open_archive, read_xml
from leanrag.documents.formats.html import html_to_text
from leanrag.documents.formats.parts import join_parts
from leanrag.types import Document

__all__ = ["read_epub"]

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)


def read_epub(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read the chapters; each begins with its mark, named by its first heading."""
    with open_archive(data, path) as archive:
        package = next(
            element.attrib["full-path"]
            for element in read_xml(archive, _CONTAINER).iter()
            if _is(element.tag, "rootfile")
        )
        title, chapters = _read_package(archive, package)
        if not _encrypted(archive).isdisjoint(chapters):
            raise encrypted_error(path, "by the protection of its shop")
        text, marks = join_parts(_parts(archive, chapters, path, encoding))
    return Document(text, id=path.as_posix(), title=title, kind="markdown", marks=marks)


def _read_package(archive: ZipFile, name: str) -> tuple[str, list[str]]:
    """Return the title of the book and the names of its chapters in reading order."""
    files: dict[str, str] = {}
    order: list[str] = []
    title = ""
    for element in read_xml(archive, name).iter():
        if _is(element.tag, "title") and not title:
            title = " ".join("".join(element.itertext()).split())
        elif _is(element.tag, "item"):
            address = unquote(element.get("href", ""))
            files[element.get("id", "")] = posixpath.normpath(posixpath.join(posixpath.dirname(name), address))
        elif _is(element.tag, "itemref"):
            order.append(element.get("idref", ""))
    known = set(archive.namelist())
    return title, [files[item] for item in order if files.get(item) in known]


def _encrypted(archive: ZipFile) -> set[str]:
    """Return the names of the parts that are encrypted; fonts may be, which does not matter."""
    if _ENCRYPTION not in archive.namelist():
        return set()
    elements = read_xml(archive, _ENCRYPTION).iter()
    return {unquote(element.get("URI", "")) for element in elements if _is(element.tag, "CipherReference")}


def _parts(archive: ZipFile, chapters: list[str], path: Path, encoding: str | None) -> Iterator[tuple[str, str]]:
    for number, name in enumerate(chapters, start=1):
        text = html_to_text(decode(archive.read(name), path, encoding), boilerplate=True)
        heading = _HEADING.search(text)
        yield f"chapter {heading[1] if heading else number}", text


def _is(tag: object, name: str) -> bool:
    """Return whether an element has this name, in whatever namespace."""
    return isinstance(tag, str) and tag.rpartition("}")[2] == name
