"""The units of code: whole lines that stay or go together."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CodeUnit"]


@dataclass(frozen=True, slots=True)
class CodeUnit:
    """Whole lines that stay or go together.

    Attributes:
        start: First character, at the beginning of a line.
        end: One past the last, without the line break.
        needs: Index of the unit that it stands under, such as a signature; None at the top level.
        is_definition: Whether it is a signature with decorators.
        is_import: Whether it imports, or is a condition of a preprocessor.
        is_docstring: Whether it documents the unit that it needs.
        depth: How many units stand over it.
        closing: Span of the bracket or word that ends its body; None if nothing does.
        continues: Index of the unit whose body ends where this unit begins, as `} else {` continues `if {`; None for none.
    """

    start: int
    end: int
    needs: int | None
    is_definition: bool = False
    is_import: bool = False
    is_docstring: bool = False
    depth: int = 0
    closing: tuple[int, int] | None = None
    continues: int | None = None
