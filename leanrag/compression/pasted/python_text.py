"""Python by its syntax: imports, signatures, docstrings, and the statements of bodies."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence

from leanrag.compression.pasted.code_units import CodeUnit

__all__ = ["parse_python"]

_Body = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def parse_python(text: str) -> list[CodeUnit] | None:
    """Return the units of Python source in order; None for text that is not Python, or has several statements in a line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    lines = _line_starts(text)
    units: list[CodeUnit] = []
    try:
        _add(text, lines, tree.body, None, 0, units)
    except ValueError:
        return None
    return units


def _line_starts(text: str) -> list[int]:
    """Return the offset of each line, as the parser counts lines, and the length of the text."""
    starts = [0]
    at = 0
    while (at := _next_line(text, at)) < len(text):
        starts.append(at)
    return [*starts, len(text)]


def _next_line(text: str, at: int) -> int:
    ends = [end for end in (text.find("\n", at), text.find("\r", at)) if end >= 0]
    if not ends:
        return len(text)
    end = min(ends)
    return end + (2 if text.startswith("\r\n", end) else 1)


def _add(
    text: str, lines: Sequence[int], body: Sequence[ast.stmt], needs: int | None, depth: int, units: list[CodeUnit]
) -> None:
    last_line = units[-1].end if units else -1
    for i, statement in enumerate(body):
        first, stop = _lines_of(statement)
        start, end = lines[first - 1], _end(text, lines, stop)
        if start <= last_line:
            raise ValueError("two statements in a line")
        while first > 1 and lines[first - 2] > last_line and text.startswith("#", _begin(text, lines[first - 2])):
            first -= 1  # comments above belong to it
            start = lines[first - 1]
        last_line = end
        if isinstance(statement, _Body):
            inner = _lines_of(statement.body[0])[0]
            if inner <= _header_line(statement):  # a body in the line of the signature
                units.append(CodeUnit(start, end, needs, is_definition=True, depth=depth))
                continue
            units.append(CodeUnit(start, _end(text, lines, inner - 1), needs, is_definition=True, depth=depth))
            _add(text, lines, statement.body, len(units) - 1, depth + 1, units)
            last_line = units[-1].end
        else:
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            units.append(
                CodeUnit(
                    start,
                    end,
                    needs,
                    is_import=isinstance(statement, (ast.Import, ast.ImportFrom)),
                    is_docstring=i == 0 and is_text and isinstance(statement.value.value, str),  # type: ignore[attr-defined]
                    depth=depth,
                )
            )


def _lines_of(statement: ast.stmt) -> tuple[int, int]:
    """Return the first line of a statement, decorators included, and its last."""
    decorators: Iterator[int] = (d.lineno for d in getattr(statement, "decorator_list", ()))
    return min([statement.lineno, *decorators]), statement.end_lineno or statement.lineno


def _header_line(statement: _Body) -> int:
    """Return the last line of a signature that an argument, a base or the name stands in."""
    nodes = [
        node
        for name, value in ast.iter_fields(statement)
        if name not in ("body", "decorator_list")
        for node in _nodes(value)
    ]
    return max([statement.lineno, *(getattr(node, "end_lineno", None) or 0 for node in nodes)])


def _nodes(value: object) -> Iterator[ast.AST]:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, ast.AST):
            yield from ast.walk(each)


def _begin(text: str, at: int) -> int:
    """Return the first character of a line that is not a space or tab."""
    while at < len(text) and text[at] in " \t":
        at += 1
    return at


def _end(text: str, lines: Sequence[int], line: int) -> int:
    """Return the end of a line, without white space and the line break."""
    return lines[line - 1] + len(text[lines[line - 1] : lines[line]].rstrip())
