"""JSON that a chat program exported (Slack, Discord, Telegram) to a transcript; other JSON is read as it is."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from leanrag.documents.decoding import decode
from leanrag.types import Document

__all__ = ["read_json"]

_HEAD = 4096  # characters in which a message of a chat must begin
_MARKS = (re.compile(r'"(?:ts|timestamp|date)"\s*:'), re.compile(r'"(?:text|content)"\s*:'))
_TIMES, _TEXTS = ("ts", "timestamp", "date"), ("text", "content")
_SENDERS = ("user_profile", "author", "from", "username", "user", "sender")
_NAMES = ("real_name", "nickname", "display_name", "name")
_MENTION = re.compile(r"<@(\w{1,40})(?:\|[^<>]{0,80})?>")
_LEAST_SHARE = 0.6  # of the objects that are messages

_Message = tuple[str, str, str]  # time, sender, text


def read_json(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read a file of JSON; of a chat, a line for each message: "[2024-05-02 09:30] Ann: ..."."""
    text = decode(data, path, encoding)
    messages = list(_messages(text)) if all(mark.search(text, 0, _HEAD) for mark in _MARKS) else []
    if not messages:
        return Document(text, id=path.as_posix(), kind="code")
    lines = [f"[{time}] {sender}: {said}\n" for time, sender, said in messages]
    return Document("".join(lines), id=path.as_posix(), kind="text")


def _messages(text: str) -> Iterator[_Message]:
    """Yield the messages of a chat; none if most objects are something else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    found = value.get("messages") if isinstance(value, dict) else value
    objects = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    names = {
        item["user"]: _sender(item) for item in objects if isinstance(item.get("user"), str) and "user_profile" in item
    }
    messages = [message for item in objects if (message := _message(item, names))]
    if objects and len(messages) >= _LEAST_SHARE * len(objects):
        yield from messages


def _message(item: Mapping[str, Any], names: Mapping[str, str]) -> _Message | None:
    time = next((_time(item[key]) for key in _TIMES if key in item), "")
    said = next((_said(item[key]) for key in _TEXTS if key in item), "").strip()
    sender = _sender(item)
    if not (time and said and sender):
        return None
    said = _MENTION.sub(lambda mention: names.get(mention[1], mention[1]), said)
    return time, names.get(sender, sender), said.replace("\n", "\n  ")


def _time(value: Any) -> str:
    """The time of a message in seconds since 1970 or in ISO 8601, to the minute; "" for anything else."""
    try:
        if isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
            return datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).strftime("%Y-%m-%d %H:%M")
        return datetime.datetime.fromtimestamp(float(value), datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


def _sender(item: Mapping[str, Any]) -> str:
    for value in (item.get(key) for key in _SENDERS):
        if isinstance(value, dict):
            value = next((value[name] for name in _NAMES if isinstance(value.get(name), str) and value[name]), "")
        if isinstance(value, str) and value:
            return " ".join(value.split())
    return ""


def _said(value: Any) -> str:
    """The text of a message, which may be in parts."""
    if isinstance(value, list):
        return "".join(
            part if isinstance(part, str) else str(part.get("text", ""))
            for part in value
            if isinstance(part, (str, dict))
        )
    return value if isinstance(value, str) else ""
