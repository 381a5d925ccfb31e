"""Which kind of text was pasted."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal, TypeAlias

from leanrag.compression.pasted.bracket_text import is_code
from leanrag.compression.pasted.json_text import parse_json
from leanrag.compression.pasted.python_text import parse_python
from leanrag.structure import paragraphs

__all__ = ["TURN", "PastedKind", "detect_kind"]

PastedKind: TypeAlias = Literal["code", "json", "tools", "table", "log", "chat", "prompt", "text"]
"""What a text is.

- code: source code; signatures and docstrings stay first.
- json: a JSON document.
- tools: descriptions of tools as JSON; names, types and required parameters stay.
- table: CSV or Markdown rows.
- log: lines with times or levels.
- chat: turns such as "User: ...".
- prompt: instructions; numbers, negations and names in them always stay.
- text: anything else.
"""

_ROLES = "user|human|assistant|ai|bot|system|agent|customer|support|q|a"
TURN = re.compile(
    rf"^(?:\*\*|#{{1,4}} ?|\[|<)?(?P<role>{_ROLES})(?:\]|>|\*\*)?[ \t]*[:：](?:\*\*)?", re.IGNORECASE | re.MULTILINE
)
"""The beginning of a turn of a chat."""

_PARAMETERS = ("parameters", "input_schema", "inputSchema")


def detect_kind(text: str) -> PastedKind:
    r"""Return the kind of a text; "text" if it is none of the others. Instructions are never detected: pass kind="prompt".

    Example:
        >>> detect_kind('{"name": "Ada"}'), detect_kind("def f(x):\\n    return x\\n"), detect_kind("Hello there.")
        ('json', 'code', 'text')
    """
    root = parse_json(text)
    if root is not None and root.children:
        keys = Counter(node.key for node in root.walk())
        is_tools = keys["name"] and keys["description"] and any(keys[key] for key in _PARAMETERS)
        return "tools" if is_tools else "json"
    lines = [line for group in paragraphs(text, 0, len(text)) for line in group]
    kinds = Counter(line.kind for line in lines)
    if len(lines) > 2 and kinds["log"] >= 0.5 * len(lines):
        return "log"
    if len({turn["role"].lower() for turn in TURN.finditer(text)}) > 1 and len(TURN.findall(text)) > 2:
        return "chat"
    if len(lines) > 2 and kinds["row"] + kinds["csv"] >= 0.6 * len(lines):
        return "table"
    tree = parse_python(text)
    if tree is not None and any(unit.is_definition or unit.is_import for unit in tree):
        return "code"
    return "code" if is_code(text) else "text"
