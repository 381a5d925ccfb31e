"""Draw `question.svg`, the way of a question: `python docs/picture.py`."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

WIDTH, HEIGHT = 984, 310
BOX, GAP, TALL = 116, 24, 58
TOP, BOTTOM = 62, 232
"""Upper edges of the two rows of boxes, in pixels."""

QUESTION = (
    ("question", "plain text"),
    ("retrieve", "FAISS + BM25, fused"),
    ("pack", "what fits the budget"),
    ("generate", "llama.cpp or an API"),
    ("ground", "quotes and verdict"),
    ("judge", "confidence"),
    ("answer", "marks, quotes, cost"),
)
DOCUMENTS = (
    ("files", "text, HTML, CSV, mail"),
    ("documents", "one reader a format"),
    ("chunks", "never cut a record"),
    ("store", "SQLite is the truth"),
    ("index", "derived, rebuildable"),
)
STYLE = """
text { font-family: system-ui, sans-serif; text-anchor: middle; fill: #1f2933 }
.name { font-size: 15px; font-weight: 600 }
.about { font-size: 10px; fill: #52606d }
.note { font-size: 12px; fill: #52606d }
.box { fill: #f5f7fa; stroke: #3e4c59 }
.loop { fill: #e6f6ff; stroke: #2186eb; stroke-dasharray: 5 4 }
.arrow { fill: none; stroke: #3e4c59; stroke-width: 1.6 }
"""
HEAD = """<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L8 4L0 8z" fill="#3e4c59"/></marker>"""
LOOP = range(2, 6)  # the stages that each model of a cascade goes through


def left(column: int) -> int:
    """Return the left edge of a column of boxes."""
    return 14 + column * (BOX + GAP)


def box(column: int, top: int, name: str, about: str) -> Iterator[str]:
    """Yield one stage with its name and what it does."""
    x, middle = left(column), left(column) + BOX // 2
    yield f'<rect class="box" x="{x}" y="{top}" width="{BOX}" height="{TALL}" rx="8"/>'
    yield f'<text class="name" x="{middle}" y="{top + 25}">{html.escape(name)}</text>'
    yield f'<text class="about" x="{middle}" y="{top + 43}">{html.escape(about)}</text>'


def arrow(path: str) -> str:
    """Return an arrow along an SVG path."""
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def draw() -> str:
    """Return the picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="The way of a question">',
        f"<style>{STYLE}</style>",
        f"<defs>{HEAD}</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    first, last = left(LOOP[0]) - 10, left(LOOP[-1]) + BOX + 10
    parts.append(f'<rect class="loop" x="{first}" y="14" width="{last - first}" height="{TOP + TALL + 8}" rx="12"/>')
    parts.append(f'<text class="note" x="{(first + last) // 2}" y="36">each model in turn, the smallest first</text>')
    for column, (name, about) in enumerate(QUESTION):
        parts += box(column, TOP, name, about)
        if column:
            parts.append(arrow(f"M{left(column) - GAP} {TOP + TALL // 2}H{left(column) - 2}"))
    judge, pack = left(LOOP[-1]) + BOX // 2, left(LOOP[0]) + BOX // 2
    parts.append(arrow(f"M{judge} {TOP + TALL}V{TOP + TALL + 40}H{pack}V{TOP + TALL + 2}"))
    parts.append(
        f'<text class="note" x="{(judge + pack) // 2}" y="{TOP + TALL + 56}">not sure enough: the next model</text>'
    )
    for column, (name, about) in enumerate(DOCUMENTS):
        parts += box(column, BOTTOM, name, about)
        if column:
            parts.append(arrow(f"M{left(column) - GAP} {BOTTOM + TALL // 2}H{left(column) - 2}"))
    retrieve = left(1) + BOX // 2
    index = left(4) + BOX // 2
    parts.append(arrow(f"M{index} {BOTTOM}V{BOTTOM - 22}H{retrieve}V{TOP + TALL + 2}"))
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(__file__).with_name("question.svg").write_text(draw(), encoding="utf-8")
