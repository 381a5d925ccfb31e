"""The definitions of source code, found by keywords and indentation in any common language."""

from __future__ import annotations

import re

from leanrag.documents.outlines import MAX_DEPTH, Section, clean_label, iter_lines

__all__ = ["CLOSER", "COMMENT", "outline_code"]

_MODIFIERS = (
    r"(?:(?:abstract|async|data|declare|default|export|extern|final|inline|internal|local|open|override|partial|private"
    r"|protected|pub(?:\([^)]*\))?|public|sealed|static|unsafe|virtual|const(?=\s+fn))\s+)*"
)
_DEFINITION = re.compile(
    _MODIFIERS
    + r"(?:(?P<key>def|class|function|func|fn|fun|struct|enum|interface|trait|module|mod|namespace|type|record"
    r"|protocol|extension|sub|proc)\b\*?\s*(?:<[^>]*>\s*)?(?:(?<=func )\([^)]*\)\s*)?(?P<name>[^\W\d][\w$.:!?]*)"
    r"|(?P<impl>impl\b[^{]*)"
    r"|(?:const|let|var)\s+(?P<variable>[\w$]+)\s*(?::[^=]+)?=\s*(?:async\s*)?(?:function\b|\([^=]*=>|[\w$]+\s*=>|\($))"
)
_SQL_DEFINITION = re.compile(
    r"create\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+|unique\s+|materialized\s+)*"
    r"(table|view|function|procedure|trigger|index|type|schema)\s+(?:if\s+not\s+exists\s+)?([\w.\"`\[\]]+)",
    re.IGNORECASE,
)
_STATEMENTS = frozenset(
    "assert await case catch defer delete do elif else for foreach go goto guard if import in match new not package raise"
    " return select switch throw try typedef until unless using when while with yield".split()
)
_WORD = re.compile(r"[\w:<>,&*\[\]~.?@$]+")
_NAME = re.compile(r"[*&]*(~?[^\W\d][\w:~$]*)")
COMMENT = re.compile(r"//|#|--|/\*|\*|;|%|<!--")
CLOSER = re.compile(r"[)\]}{]|end\b|(?:else|elif|elsif|except|finally|catch|rescue|then|esac|fi|done)\b|\w+\s*:\s*$")
_TRIPLE_QUOTE = re.compile(r'"""|' + "'''")


def _definition(line: str, next_line: str) -> str:
    """Return what `line` defines, as "class Foo" or "name()"; "" when it defines nothing."""
    line = line[:300]
    if found := _DEFINITION.match(line):
        if found["impl"]:
            return clean_label(found["impl"])
        return f"{found['key']} {found['name']}" if found["key"] else f"function {found['variable']}"
    if found := _SQL_DEFINITION.match(line):
        return f"{found[1].lower()} {found[2]}"
    head, parenthesis, _ = line.partition("(")
    if not parenthesis or not (line.endswith("{") or next_line.startswith("{")):
        return ""
    words = head.split()
    if not words or words[0] in _STATEMENTS or not all(map(_WORD.fullmatch, words)):
        return ""
    name = _NAME.fullmatch(words[-1])
    return f"{name[1]}()" if name and name[1] not in _STATEMENTS else ""


def outline_code(text: str) -> Section:
    """Nest definitions by indentation; decorators and comments right above belong to what follows them."""
    lines = [(start, end, text[start:end].strip()) for start, end in iter_lines(text)]
    root = Section(0, len(text))
    stack: list[tuple[int, Section]] = [(-1, root)]
    last = 0  # where the last line of code ends
    lead: int | None = None  # where the comments and decorators right above begin
    brackets = 0  # open in the decorator
    quote = ""  # the triple quote that is open
    for i, (start, end, line) in enumerate(lines):
        if quote or not line:
            quote = _quote_after(line, quote)
            last = end if line else last
            lead = None
            continue
        if brackets > 0 or line.startswith("@") or COMMENT.match(line):
            if brackets > 0 or line.startswith("@"):
                brackets += sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
            lead = start if lead is None else lead
            continue
        indent = len(text[start:end].expandtabs(4)) - len(text[start:end].expandtabs(4).lstrip())
        is_closer = CLOSER.match(line) is not None
        while stack[-1][0] > indent or (stack[-1][0] == indent and not is_closer):
            stack.pop()[1].end = last
        label = _definition(line, lines[i + 1][2] if i + 1 < len(lines) else "")
        if label and len(stack) <= MAX_DEPTH:
            section = Section(start if lead is None else lead, end, label)
            stack[-1][1].children.append(section)
            stack.append((indent, section))
        quote = _quote_after(line, "")
        last, lead = end, None
    for _, section in stack[1:]:
        section.end = last
    return root


def _quote_after(line: str, quote: str) -> str:
    """Return the triple quote that is open after `line`, "" for none; `quote` is open before it."""
    for found in _TRIPLE_QUOTE.findall(line):
        quote = "" if quote == found else quote or found
    return quote
