"""Split a stream of bytes into server-sent events, and join characters that a server split."""

from __future__ import annotations

import codecs

__all__ = ["EventDecoder", "SurrogateJoiner"]


class EventDecoder:
    r"""Splits a stream of server-sent events into the data of each event (HTML standard, 9.2.6). Pieces may be cut anywhere.

    Comments, events without data and other fields are ignored.

    Example:
        >>> decoder = EventDecoder()
        >>> decoder.feed(b": hello\ndata: a\nda")
        []
        >>> decoder.feed(b"ta: b\r\n\r\n")
        ['a\nb']
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._ends_in_cr = False  # so that a line feed at the beginning of the next piece belongs to it
        self._line: list[str] = []  # pieces of the current line
        self._data: list[str] = []
        self._name = ""

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data of the events that `chunk` completes.

        Raises:
            UnicodeDecodeError: The stream is not UTF-8.
        """
        return [data for _, data in self.feed_named(chunk)]

    def feed_named(self, chunk: bytes) -> list[tuple[str, str]]:
        """Return `(name, data)` of the events that `chunk` completes; the name is "" if the server sent none.

        Raises:
            UnicodeDecodeError: The stream is not UTF-8.
        """
        text = self._decode(chunk)
        if self._ends_in_cr and text.startswith("\n"):
            text, self._ends_in_cr = text[1:], False
        if text:
            self._ends_in_cr = text.endswith("\r")
        first, *others = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._line.append(first)
        events = []
        for piece in others:
            line, self._line = "".join(self._line), [piece]
            if line:
                self._read(line)
            else:
                events += self._take()
        return events

    def end(self) -> list[tuple[str, str]]:
        """Return the last event, if the stream ended before its blank line."""
        line, self._line = "".join(self._line), []
        if line:
            self._read(line)
        return self._take()

    def _read(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value

    def _take(self) -> list[tuple[str, str]]:
        name, data = self._name, "\n".join(self._data)
        self._name, self._data = "", []
        return [(name, data)] if data else []


class SurrogateJoiner:
    r"""Joins the halves of characters above U+FFFF that a server sent in two pieces. A half alone becomes U+FFFD.

    Example:
        >>> join = SurrogateJoiner()
        >>> join("so \ud83d"), join("\ude00 it is"), join("\ud83d"), join("", final=True)
        ('so ', '😀 it is', '', '\ufffd')
    """

    def __init__(self) -> None:
        self._half = ""

    def __call__(self, text: str, *, final: bool = False) -> str:
        """Return the text up to its last whole character."""
        text, self._half = self._half + text, ""
        if not final and "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
