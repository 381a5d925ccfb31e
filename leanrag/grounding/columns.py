"""Whether a value of a table or a record is taken from the column or the line that was asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leanrag.grounding.cells import Cell
from leanrag.grounding.claims import Claim, Passage, holds
from leanrag.grounding.reading import Token, base_of
from leanrag.grounding.values import VALUE_KINDS, is_among, kind_of

__all__ = [
    "MEASURES",
    "takes_another_assignment",
    "takes_another_column",
    "takes_another_line",
    "takes_other_than_default",
]


def takes_another_column(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A value or name of the claim stands in the row, but under another name than the question or the claim says.

    Where no whole name is said, a value of another kind than those under the names that are partly said stands elsewhere, too.
    """
    said = claim.asked | {token.base for token in claim.whole if token.is_content}
    cells = [cell for cell in passage.cells if not _is_named(cell, claim)]
    asked = [cells[i] for i in _asked_columns(cells, frozenset(said))]
    partly = [cell for cell in cells if not asked and any(_is_said(base, said) for base in cell.name)]
    names = frozenset[str]().union(*(cell.name for cell in asked))
    for token in claim.tokens if asked or partly else ():
        if (token.kind not in VALUE_KINDS and not token.is_name) or is_among(token, claim.question):
            continue
        own = [cell for cell in passage.cells if is_among(token, cell.tokens)]
        if not own or any(_is_said(base, said) for cell in own for base in cell.name - names):
            continue
        if (
            not any(_has_kind(cell, token.kind) for cell in partly)
            if partly
            else not any(cell in asked for cell in own)
        ):
            return True
    return False


def _has_kind(cell: Cell, kind: str) -> bool:
    """Whether a cell has a token of a kind, or no value at all."""
    kinds = {token.kind for token in cell.tokens}
    return kind in kinds or kinds.isdisjoint(VALUE_KINDS)


def _is_named(cell: Cell, claim: Claim) -> bool:
    """Whether the question names the cell, which tells the row and not what was asked ("Who placed order B-17?")."""
    content = [token for token in cell.tokens if token.is_content]
    return bool(content) and all(is_among(token, claim.question) for token in content)


def takes_another_line(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A value or name of the claim stands in its line, but the name of another line of the record is nearer to what is said."""
    if not passage.record:
        return False
    said = claim.asked | {token.base for token in claim.whole if token.is_content}
    own = passage.record[passage.line]
    told = [token for token in claim.tokens if token.is_content and not is_among(token, claim.question)]
    kinds = {token.kind for token in told if is_among(token, own.tokens)}
    if any(_speaks_of_another(line, own, told, claim) for line in passage.record):
        return True
    return any(
        _count_said(line, said) > _count_said(own, said)
        and not all(is_among(token, line.tokens) for token in told)
        and any(token.kind in kinds for token in line.tokens if token.is_content and token.base not in line.name)
        for line in passage.record
    )


def _speaks_of_another(line: Cell, own: Cell, told: Sequence[Token], claim: Claim) -> bool:
    """Whether a line of a record names what was asked, and has a value of the answer's kind beside it ("To: Ada, 5 Hill Road")."""
    kinds = {token.kind for token in told if token.kind in VALUE_KINDS and is_among(token, own.tokens)}
    return (
        bool(kinds)
        and claim.asked.isdisjoint(own.name | own.bases)
        and not claim.asked.isdisjoint(line.bases)
        and any(token.kind in kinds and not is_among(token, (*told, *claim.question)) for token in line.tokens)
    )


def takes_another_assignment(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim gives the name that was asked about the value of another name ("cut(depth=4, width=9)")."""
    if not any(token.text == "=" for token in passage.everything):
        return False
    told = [token for token in claim.tokens if token.kind in VALUE_KINDS and not is_among(token, claim.question)]
    tokens = passage.everything
    asked, others = list[Token](), list[Token]()
    for name, sign, value in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if sign.text == "=" and name.kind != "pause":
            (asked if name.base in claim.asked else others).append(value)
    asks_default = _DEFAULT in claim.asked
    return bool(asked) and any(
        (asks_default or is_among(token, others)) and not is_among(token, asked) for token in told
    )


def takes_other_than_default(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The question asks for the default, and the claim gives another value than the part of the sentence that names it."""
    if _DEFAULT not in claim.asked:
        return False
    named = _named_default(passage.tokens)
    told = [token for token in claim.tokens if token.is_content and not is_among(token, claim.question)]
    if named and told and not any(token.base == named for token in told):
        return all(is_among(token, passage.tokens) and not token.is_name for token in told)
    told = [token for token in told if token.kind in VALUE_KINDS]
    parts = [part for part in passage.segments if any(token.base == _DEFAULT for token in part)]
    return bool(parts) and any(
        not any(is_among(token, part) for part in parts)
        and all(any(kind_of(value) == kind_of(token) and value.is_content for value in part) for part in parts)
        for token in told
    )


def _named_default(tokens: Sequence[Token]) -> str:
    """The word that a sentence names as the default ("metres or feet (default: metres)"); "" for none."""
    for i, token in enumerate(tokens[:-2]):
        if token.base == _DEFAULT and tokens[i + 1].text in {":", "="}:
            following = tokens[i + 2 : i + 4]
            is_alone = len(following) < 2 or following[1].text in {",", ";", ".", ")"}
            return following[0].base if is_alone and following[0].kind == "word" else ""
    return ""


_DEFAULT = base_of("default")


MEASURES = frozenset(
    map(base_of, "price cost fee time date day number amount name type value total size length".split())
)
"""Words for what an answer is, which tell lines apart less than words for what it is about."""


def _count_said(line: Cell, said: frozenset[str]) -> int:
    """How much of the name of a line is said."""
    return sum(
        1 if base in MEASURES else 2 for base in line.name if base in said or (base.isalpha() and _is_said(base, said))
    )


def _asked_columns(cells: Sequence[Cell], said: frozenset[str]) -> set[int]:
    """Return the columns whose whole names are said, but for those that are part of a longer name: "price", "selling price"."""
    found = {i for i, cell in enumerate(cells) if cell.name and all(_is_said(base, said) for base in cell.name)}
    return {i for i in found if not any(cells[i].name < cells[other].name for other in found)}


def _is_said(base: str, said: frozenset[str]) -> bool:
    return holds(said, Token("word", base, base, base))
