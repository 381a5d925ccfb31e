"""A picture of cost against quality, as SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from leanrag.errors import ConfigurationError

__all__ = ["Dot", "scatter_svg"]

_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 24, 56
_COLOURS = {"plain": "#9aa5b1", "front": "#2186eb", "chosen": "#0c8a4f", "baseline": "#d64545"}


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of the picture.

    Attributes:
        name: Shown beside the dot; "" shows nothing.
        x: Its cost, at least 0.
        y: Its quality, from 0 to 1.
        low: Lower end of the interval of the quality; None shows no interval.
        high: Upper end.
        kind: Its colour: "plain", "front" (no other point is cheaper and better), "chosen" or "baseline".
    """

    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    kind: Literal["plain", "front", "chosen", "baseline"] = "plain"


def scatter_svg(dots: Sequence[Dot], *, x_label: str, y_label: str) -> str:
    """Return the picture as the text of an SVG file. The points of the front are joined by a line.

    Raises:
        ConfigurationError: There are no points.
    """
    if not dots:
        raise ConfigurationError("a picture needs at least one point")
    most = max(dot.x for dot in dots) * 1.05 or 1.0
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x_of(value: float) -> float:
        return round(_LEFT + across * value / most, 1)

    def y_of(value: float) -> float:
        return round(_TOP + down * (1 - value), 1)

    base = y_of(0)
    middle = _TOP + down / 2
    head = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
    turned = f'x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})"'
    parts = [
        f'<svg {head} aria-label="{escape(y_label)} against {escape(x_label)}">',
        "<style>text { font-family: system-ui, sans-serif; font-size: 12px; fill: #1f2933 }</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<path d="M{_LEFT} {_TOP}V{base}H{_LEFT + across}" fill="none" stroke="#3e4c59"/>',
        f'<text x="{_LEFT + across / 2}" y="{_HEIGHT - 14}" text-anchor="middle">{escape(x_label)}</text>',
        f"<text {turned}>{escape(y_label)}</text>",
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<text x="{_LEFT - 8}" y="{y_of(share) + 4}" text-anchor="end">{share:.0%}</text>')
        parts.append(f'<text x="{x_of(most * share)}" y="{base + 18}" text-anchor="middle">{most * share:.3g}</text>')
    front = sorted((dot.x, dot.y) for dot in dots if dot.kind in ("front", "chosen"))
    if len(front) > 1:
        line = "L".join(f"{x_of(x)} {y_of(y)}" for x, y in front)
        parts.append(f'<path d="M{line}" fill="none" stroke="{_COLOURS["front"]}" stroke-dasharray="4 4"/>')
    for dot in dots:
        colour, x, y = _COLOURS[dot.kind], x_of(dot.x), y_of(dot.y)
        if dot.low is not None and dot.high is not None:
            parts.append(f'<path d="M{x} {y_of(dot.low)}V{y_of(dot.high)}" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"/>')
        if dot.name:
            parts.append(f'<text x="{x + 9}" y="{y - 7}">{escape(dot.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
