"""Mails: a message (.eml) or a mailbox (.mbox) with sender, recipients, date and subject above each text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import EmailPolicy
from pathlib import Path
from typing import Any

from leanrag.documents.formats.html import html_to_text
from leanrag.types import Document

__all__ = ["read_mail", "read_mailbox"]

_FIELDS = ("From", "To", "Cc", "Date", "Subject")
_MESSAGE = re.compile(rb"^From [^\r\n]*\d{2}:\d{2}[^\r\n]*\r?\n", re.MULTILINE)
_MAX_DEPTH = 8  # of messages in messages
_MAX_FIELD = (
    20_000  # characters of a header field; the parser of the standard library takes quadratic time for hostile ones
)


class _BoundedPolicy(EmailPolicy):
    """The default policy, which reads the beginning of very long fields only."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        return super().header_fetch_parse(name, value[:_MAX_FIELD])


_POLICY = _BoundedPolicy()


def read_mail(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read one message; its subject is the document's title. Attachments are named, not read."""
    title, text = _message(data, encoding)
    return Document(text, id=path.as_posix(), title=title, kind="text")


def read_mailbox(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read all messages of a mailbox, each under its subject as a heading."""
    starts = [found.span() for found in _MESSAGE.finditer(data)]
    ends = [start for start, _ in starts[1:]] + [len(data)]
    parts = []
    for (_, start), end in zip(starts, ends, strict=True):
        subject, text = _message(re.sub(rb"(?m)^>(>*From )", rb"\1", data[start:end]), encoding)
        parts.append(f"# {subject or 'Message'}\n\n{text}")
    return Document("\n\n".join(parts), id=path.as_posix(), kind="markdown")


def _message(data: bytes, encoding: str | None) -> tuple[str, str]:
    """Return the subject and the whole text of a message."""
    message = message_from_bytes(data, policy=_POLICY)
    assert isinstance(message, EmailMessage)  # what the policy makes
    fields = {name: _field(message, name) for name in _FIELDS}
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    body = "\n\n".join(part for part in _texts(message, encoding) if part)
    return fields["Subject"], "\n".join(lines) + f"\n\n{body}\n"


def _field(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())
    except (ValueError, MessageError, IndexError, AttributeError, TypeError):
        # what the parser of the standard library raises on broken fields
        return ""


def _texts(message: EmailMessage, encoding: str | None, depth: int = 0) -> Iterator[str]:
    """Yield the texts of a message in order: the plain form where there are several."""
    if depth > _MAX_DEPTH:
        return
    kind = message.get_content_type()
    if kind == "multipart/alternative":
        forms = [part for part in message.iter_parts() if isinstance(part, EmailMessage)]
        plain = [part for part in forms if part.get_content_type() == "text/plain"]
        chosen = [form for form in plain if _text(form, encoding).strip()] or forms[-1:]
        for form in chosen[:1]:
            yield from _texts(form, encoding, depth + 1)
    elif message.is_multipart():
        for part in message.iter_parts():
            if isinstance(part, EmailMessage):
                yield from _texts(part, encoding, depth + 1)
    elif message.is_attachment() or message.get_content_maintype() != "text":
        name = message.get_filename()
        yield f"Attachment: {name}" if name else ""
    elif kind == "text/html":
        yield html_to_text(_text(message, encoding)).strip()
    else:
        yield _text(message, encoding).replace("\r\n", "\n").strip()


def _text(message: EmailMessage, encoding: str | None) -> str:
    payload = message.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    for name in (message.get_content_charset(), encoding, "utf-8"):
        try:
            return data.decode(name or "utf-8")
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("cp1252", "replace")
