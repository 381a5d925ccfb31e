"""Code in other languages than Python, by its brackets, indents and comments."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from leanrag.compression.pasted.code_units import CodeUnit

__all__ = ["is_code", "parse_brackets"]

_LINE = re.compile(r"[^\n]+")
_QUIET = re.compile(
    r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n()\[\]{}])*'|'[()\[\]{}]'|`[^`\n]*`|/\*.*?\*/|(?:^|(?<=\s))(?://|\#\s).*"
)
"""Strings and comments, whose brackets do not count."""

_BLOCK_COMMENTS = (("/*", "*/"), ("<!--", "-->"), ("--[[", "]]"), ("{-", "-}"), ("(*", "*)"))
_POD = re.compile(r"=[a-z]\w*")
_DIRECTIVE = re.compile(r"#[ \t]*(?:include|define|undef|if|ifdef|ifndef|else|elif|endif|pragma|error|import|line)\b")
_LINE_COMMENT = re.compile(r"//|--(?:[ \t-]|$)|#(?:[ \t#]|$)|;;|%{1,2}[ \t]")
_DECORATOR = re.compile(r"@[\w.]+(?:\(.*\))?$|#!?\[.*\]$|\[\w+(?:\(.*\))?\]$")
_CLOSES = re.compile(r"[})\]]+|(?:end|fi|done|esac|endif|endfor|endwhile)\b|</[\w-]+>$")
_GOES_ON = re.compile(r"(?:else|elif|elsif|elseif|rescue|ensure|catch|finally|except|when|in)\b")
_CONTROL = re.compile(
    r"[})\]\s]*(?:if|else|elif|elsif|elseif|for|foreach|while|until|unless|switch|case|when|catch|try|do|return|with|match|select|"
    r"loop|finally|throw|new|assert|yield|await|defer|begin|rescue|using)\b"
)
_DEFINES = re.compile(
    r"(?:[\w@<>:.]+[ \t]+){0,5}?(?:class|struct|union|interface|enum|trait|impl|namespace|module|def|defn|fn|func|fun|function|"
    r"sub|proc|procedure|method|protocol|extension)\b"
)
_CALLABLE = re.compile(r"[^(=;]*[\w\]>*&)][ \t\n]*\(")
_DECLARED = re.compile(r"[\w*&:<>,\[\] \t\n]*[\w*&>][ \t\n]+[*&]*[\w:~]+[ \t\n]*\(")
_IMPORTS = re.compile(r"(?:import|from|use|using|package|require|#[ \t]*\w+)\b|(?:const|let|var)\b.*\brequire\(")
_CODE_LINE = re.compile(
    r".*(?:[{};(]|\)[;,:]|=>|; ?(?:then|do))$|"
    r"(?:const|let|var|function|local|export|extern|typedef|struct|enum|static|public|private|protected|import|package|using|fn|"
    r"func|impl|namespace|template|def|class|async)[ \t]+[\w{*$].*|"
    r"(?:if|for|while|switch|catch|elif|foreach)[ \t]*[(\[].*|(?:fi|done|esac|end|else|endif|return)$|return[ \t].*[\w)\]]$|"
    r"\$?[\w.:]+\(.*\)$"
)
_PROSE = re.compile(r"(?:[^\W\d_]+,? ){5}[^\W\d_]+")  # clauses of a contract end with semicolons, too
_STATEMENT_LINES = 12  # of a statement that is written over several lines
_LONGEST = 2000  # characters of a line whose strings are looked for
_HEADER = 300  # characters of a statement that tell what it is
_SEMICOLONS = 0.2  # share of the lines of a language whose statements end with them


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    indent: int
    content: str
    is_comment: bool
    is_apart: bool  # a blank line is above it


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement or a comment.

    Attributes:
        start: First character.
        end: One past the last.
        indent: Columns before it.
        first: Its first line.
        is_comment: Whether it is a comment.
        is_apart: Whether a blank line is above it.
        opens: Whether it ends with an open bracket.
    """

    start: int
    end: int
    indent: int
    first: str
    is_comment: bool
    is_apart: bool
    opens: bool


def is_code(text: str) -> bool:
    """Whether most of the lines that are not comments are statements of a program."""
    lines = [line for line in _read_lines(text) if not line.is_comment]
    n_code = sum(_is_statement(line) for line in lines)
    return text.startswith("#!") or (len(lines) > 3 and n_code >= 0.5 * len(lines))


def _is_statement(line: _Line) -> bool:
    if _is_directive(line):
        return True
    return _CODE_LINE.match(line.content) is not None and not _PROSE.search(_without_strings(line.content))


def parse_brackets(text: str) -> list[CodeUnit]:
    """Return the units of code, in order, except that a comment follows the unit that it documents.

    What is set deeper than a statement stands under it. A comment documents the statement below it, or the one above it if a
    blank line or nothing is below.
    """
    lines = list(_read_lines(text))
    has_semicolons = _has_semicolons(lines)
    statements = list(_read_statements(lines, has_semicolons))
    builder = _Builder(text, has_semicolons)
    for statement, below in itertools.zip_longest(statements, statements[1:]):
        if statement.is_comment:
            builder.add_comment(statement, below)
        else:
            builder.add(statement)
    return builder.finish()


# Lines and statements


def _read_lines(text: str) -> Iterator[_Line]:
    until = ""  # what ends the block comment that is open
    last = 0
    for match in _LINE.finditer(text):
        line = match[0].rstrip()
        content = line.lstrip()
        if not content:
            continue
        is_apart = text.count("\n", last, match.start()) > 1
        is_comment = bool(until)
        if not until and _POD.match(line):
            is_comment, until = True, "=cut"
        elif not until:
            until = next((end for begin, end in _BLOCK_COMMENTS if content.startswith(begin)), "")
            is_comment = bool(until) or (not _DIRECTIVE.match(content) and _LINE_COMMENT.match(content) is not None)
        if until and until in content[0 if is_apart or len(content) < 3 else 1 :]:
            until = ""
        indent = len(line[: len(line) - len(content)].expandtabs(4))
        yield _Line(match.start(), match.start() + len(line), indent, content, is_comment, is_apart)
        last = match.start() + len(line)


def _read_statements(lines: Sequence[_Line], has_semicolons: bool) -> Iterator[_Statement]:
    i = 0
    while i < len(lines):
        n = _comment_lines(lines, i) if lines[i].is_comment else _statement_lines(lines, i, has_semicolons)
        first, last = lines[i], lines[i + n - 1]
        opens = not first.is_comment and _without_strings(last.content).endswith(("{", "(", "["))
        yield _Statement(first.start, last.end, first.indent, first.content, first.is_comment, first.is_apart, opens)
        i += n


def _without_strings(content: str) -> str:
    """Return a line without its strings and comments; a very long line stays as it is."""
    return (_QUIET.sub("", content) if len(content) <= _LONGEST else content).rstrip()


def _has_semicolons(lines: Iterable[_Line]) -> bool:
    """Whether statements of the language end with semicolons: many of its lines do."""
    ends = [line.content[-1] for line in lines if not line.is_comment and not _is_directive(line)]
    return ends.count(";") >= _SEMICOLONS * max(1, len(ends))


def _comment_lines(lines: Sequence[_Line], first: int) -> int:
    """Return how many lines a comment has."""
    end = first + 1
    while end < len(lines) and lines[end].is_comment:
        begins = lines[end].content.startswith(("/*", "<!--"))
        if lines[end].is_apart and (begins or not lines[end - 1].content.startswith(("*", "=", "/*"))):
            break
        end += 1
    return end - first


def _statement_lines(lines: Sequence[_Line], first: int, has_semicolons: bool) -> int:
    """Return how many lines a statement has: until its brackets are closed or a body begins."""
    open_brackets, is_directive = 0, _is_directive(lines[first])
    for n in range(1, _STATEMENT_LINES + 1):
        line = lines[first + n - 1]
        content = _without_strings(line.content)
        open_brackets += sum(map(content.count, "([")) - sum(map(content.count, ")]"))
        below = lines[first + n] if first + n < len(lines) else None
        if below is None or below.is_comment or below.is_apart:
            return n
        if content.endswith("\\"):
            continue
        if is_directive or (content.endswith(("{", "}", ";")) and not content.endswith("({")):
            return n
        if below.content == "{":
            return n + 1
        goes_on = has_semicolons and not content.endswith((":", ",")) and not _CLOSES.match(below.content)
        if not (open_brackets > 0 or _DECORATOR.match(line.content) or (goes_on and not _is_directive(below))):
            return n
    return 1  # a long list: its lines are units


def _is_directive(line: _Line) -> bool:
    return _DIRECTIVE.match(line.content) is not None


# Units


class _Builder:
    """Puts the units together; `_open` has the indent and the unit of each statement that the next may stand under."""

    def __init__(self, text: str, has_semicolons: bool) -> None:
        self._text, self._has_semicolons = text, has_semicolons
        self._units: list[CodeUnit] = []
        self._open: list[tuple[int, int]] = []
        self._has_body: set[int] = set()
        self._comment: _Statement | None = None  # documents the next statement
        self._last_end = 0  # of the statements so far

    def add(self, statement: _Statement) -> None:
        """Add a statement, or the end of a body."""
        self._last_end = statement.end
        while self._open and self._open[-1][0] > statement.indent:
            self._open.pop()
        continues, closing = None, _CLOSES.match(statement.first)
        if self._open and self._open[-1][0] == statement.indent:
            before = self._open.pop()[1]
            goes_on = statement.opens or _GOES_ON.match(statement.first.lstrip("}) ]")) is not None
            if closing and not goes_on:
                self._close(before, (statement.start, statement.end))
                return
            if goes_on and before in self._has_body and (closing or _GOES_ON.match(statement.first)):
                continues = before
                if closing:
                    self._close(
                        before, (statement.start, self._text.index(closing[0], statement.start) + closing.end())
                    )
        needs = continues if continues is not None else self._open[-1][1] if self._open else None
        self._append(statement, needs, continues)

    def _append(self, statement: _Statement, needs: int | None, continues: int | None) -> None:
        above = None if needs is None else self._units[needs]
        if needs is not None:
            self._has_body.add(needs)
        i = len(self._units)
        content = self._text[statement.start : statement.end].lstrip()[:_HEADER]
        self._units.append(
            CodeUnit(
                statement.start,
                statement.end,
                needs,
                is_definition=self._defines(content, statement, above),
                is_import=_IMPORTS.match(content) is not None,
                depth=0 if above is None else above.depth + (continues is None),
                continues=continues,
            )
        )
        if statement.opens:
            self._has_body.add(i)
        self._open.append((statement.indent, i))
        if self._comment is not None:
            self._add_comment(self._comment, i, documents=True)
            self._comment = None

    def _defines(self, content: str, statement: _Statement, above: CodeUnit | None) -> bool:
        if _CONTROL.match(content):
            return False
        if _DEFINES.match(content):
            return True
        last = self._text[statement.end - 1]
        if statement.opens and last == "{":
            return _CALLABLE.match(content) is not None
        is_outside = above is None or above.is_definition
        return is_outside and self._has_semicolons and last == ";" and _DECLARED.match(content) is not None

    def _close(self, unit: int, closing: tuple[int, int]) -> None:
        """Note the end of a body, and of all bodies that it continues and that have no end."""
        at: int | None = unit
        while at is not None and self._units[at].closing is None:
            self._units[at] = replace(self._units[at], closing=closing)
            at = self._units[at].continues

    def add_comment(self, comment: _Statement, below: _Statement | None) -> None:
        """Add a comment to what it documents."""
        if below is not None and not (
            below.is_comment or below.is_apart or below.indent != comment.indent or _CLOSES.match(below.first)
        ):
            self._comment = comment
            return
        above = next((i for indent, i in reversed(self._open) if indent <= comment.indent), None)
        if above is not None and not comment.is_apart and self._units[above].end == self._last_end:
            self._add_comment(comment, above, documents=True)
            return
        parent = next((i for indent, i in reversed(self._open) if indent < comment.indent), None)
        self._add_comment(comment, parent, documents=False)

    def _add_comment(self, comment: _Statement, needs: int | None, *, documents: bool) -> None:
        depth = 0 if needs is None else self._units[needs].depth + 1
        self._units.append(CodeUnit(comment.start, comment.end, needs, is_docstring=documents, depth=depth))

    def finish(self) -> list[CodeUnit]:
        """Return the units."""
        return self._units
