"""Figures as text: what the tables of several benchmarks have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["cell", "data_label", "later", "percent"]


def cell(value: float | None, digits: int = 2) -> str:
    """Return a figure; "–" if it was not measured."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """Return a share in per cent, with a digit; "–" if it was not measured."""
    return "–" if value is None else f"{100 * value:.1f} %"


def data_label(name: str) -> str:
    """Return the name of a data set for people."""
    return {"squad": "SQuAD", "nq": "NQ"}[name]


def later(figures: Mapping[str, Any], section: str) -> str:
    """Return the commit of a section that was measured later, in brackets; "" if it was measured with the others."""
    commit = figures["about"].get("later", {}).get(section)
    return f" (commit {commit})" if commit else ""
