"""Directives and fields of reStructuredText (".. versionadded:: 2.0", ":param size: ..."), in words."""

from __future__ import annotations

import re

__all__ = ["directive_of", "spell_out_directive"]

_DIRECTIVE = re.compile(r"\s*\.\. (?:[a-z]+:)?([a-z][\w-]*)::(?:[ \t]+|\Z)")
_FIELD = re.compile(r"\s*:([A-Za-z][\w-]*)((?: [\w.*]+){0,3}):(?=\s|\Z)")
_DIRECTIVES = {
    "versionadded": "added in version",
    "versionchanged": "changed in version",
    "deprecated": "deprecated since version",
    "versionremoved": "removed in version",
    "envvar": "environment variable",
    "confval": "setting",
    "cmdoption": "option",
    "automethod": "method",
    "autofunction": "function",
    "autoclass": "class",
    "automodule": "module",
}
_FIELDS = {"param": "parameter", "arg": "argument", "rtype": "return type", "returns": "returns", "raises": "raises"}


def directive_of(text: str) -> str:
    """Return the name of the directive or field that a line begins with; "" for none."""
    found = (_DIRECTIVE.match(text) or _FIELD.match(text)) if ":" in text else None
    return found[1] if found else ""


def spell_out_directive(text: str) -> str:
    """Return a line with the sign of its directive or field in words.

    Example:
        >>> spell_out_directive(".. deprecated:: 3.1")
        'deprecated since version 3.1'
        >>> spell_out_directive(":param size: How large it is.")
        'parameter size: How large it is.'
    """
    if ":" not in text:
        return text
    if found := _DIRECTIVE.match(text):
        return f"{_DIRECTIVES.get(found[1], found[1].replace('-', ' '))} {text[found.end() :]}"
    if found := _FIELD.match(text):
        return f"{_FIELDS.get(found[1], found[1])}{found[2]}:{text[found.end() :]}"
    return text
