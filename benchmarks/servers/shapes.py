"""Responses in the shapes that vendors document: whole and streamed, each with the answer that is in it.

The texts are written for this list; only the fields and their order are those of the vendors.
"""

from __future__ import annotations

from benchmarks.servers.building import Shape as Shape
from benchmarks.servers.hosted import HOSTED
from benchmarks.servers.local import LOCAL

__all__ = ["SHAPES", "Shape"]

SHAPES: tuple[Shape, ...] = (*HOSTED, *LOCAL)
"""All shapes."""
