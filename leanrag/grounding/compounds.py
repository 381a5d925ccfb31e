"""What is written in two ways: German compounds ("Rücksendefrist", "Frist für Rücksendungen"), codes ("RFC 4716"), dates."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from leanrag.grounding.reading import Token, read_tokens

__all__ = ["fit_codes", "fit_compounds", "fit_days"]

_CODE = re.compile(r"([a-z]{2,})(\d+)")

_SHORTEST = 7  # letters of a compound
_SHORTEST_HEAD = 4  # letters of its last part
_SHORTEST_FRONT = 5  # letters that a longer front part shares with a word; shorter parts must be whole
_LINKS = ("", "s", "es", "n", "en", "e", "er")
_ENDINGS = frozenset(("", "s", "es", "n", "en", "e", "er", "ern", "t", "ung", "ungen"))
_UMLAUTS = str.maketrans("äöü", "aou")


def fit_compounds(tokens: Sequence[Token], known: Mapping[str, Token]) -> tuple[Token, ...]:
    """Return the tokens with compounds that are not known split into known words, and known compounds for two of their parts.

    Args:
        tokens: Of a German question or answer.
        known: Content words of the sources, each with a token.
    """
    found = [part for token in tokens for part in (_split(token, known) if _is_unknown(token, known) else [token])]
    return tuple(_join(found, known))


def _is_unknown(token: Token, known: Mapping[str, Token]) -> bool:
    return token.is_content and token.kind == "word" and token.word not in known and len(token.word) > 1


def _split(token: Token, known: Mapping[str, Token]) -> list[Token]:
    """The two known words that a word is made of; the word itself if there are none."""
    word = token.word
    if len(word) < _SHORTEST:
        return [token]
    for head in known.values():
        if len(head.word) < _SHORTEST_HEAD or not word.endswith(head.word) or head.word == word:
            continue
        front = word[: -len(head.word)]
        behind = next((other for other in known.values() if other is not head and _is_front(front, other.word)), None)
        if behind is not None:
            return [behind, head]
    return [token]


def _join(tokens: Sequence[Token], known: Mapping[str, Token]) -> Iterator[Token]:
    """Yield the tokens; where two of them, one not known, are the parts of a known compound, it stands for both."""
    content = [token for token in tokens if token.is_content and token.kind == "word"]
    unknown = [token for token in content if _is_unknown(token, known)]
    compounds: dict[str, Token] = {}
    for compound in (token for token in known.values() if len(token.word) >= _SHORTEST) if unknown else ():
        for head in content:
            front = _before_head(compound.word, head.word)
            for other in content if front else ():
                if other is not head and (head in unknown or other in unknown) and _is_front(front, other.word):
                    compounds[head.word] = compounds[other.word] = compound
    yield from (compounds.get(token.word, token) for token in tokens)


def _before_head(compound: str, head: str) -> str:
    """The front part of a compound that ends in a form of `head`; "" for none."""
    for end in range(len(head), max(_SHORTEST_HEAD, len(head) - 3) - 1, -1):
        if head[end:] in _ENDINGS and compound.endswith(head[:end]):
            return compound[:-end]
    return ""


def _is_front(front: str, word: str) -> bool:
    """Whether a word may be the front part of a compound: "rücksende" and "Rücksendungen", "wand" and "Wände"."""
    front, word = front.translate(_UMLAUTS), word.translate(_UMLAUTS)
    if any(front.removesuffix(link) == word.removesuffix(ending) for link in _LINKS for ending in _ENDINGS):
        return True
    shared = next((i for i, (a, b) in enumerate(zip(front, word, strict=False)) if a != b), min(len(front), len(word)))
    return shared >= max(_SHORTEST_FRONT, len(front) - 3)


def fit_codes(tokens: Sequence[Token], bases: Collection[str]) -> tuple[Token, ...]:
    """Return the tokens with codes of letters and a number written as in the sources, whose words stand for `bases`."""
    found: list[Token] = []
    for token in tokens:
        code = f"{found[-1].word}{token.word}" if found and token.quantity is not None else ""
        parts = _CODE.fullmatch(token.base) if token.kind == "identifier" and token.base not in bases else None
        is_parted = bool(found) and found[-1].base in bases and token.base in bases
        if code in bases and _CODE.fullmatch(code) and not is_parted:
            found[-1] = Token("identifier", f"{found[-1].text} {token.text}", code, code, is_content=True)
        elif parts and all(part in bases for part in parts.groups()):
            found += (part for text in parts.groups() for part in read_tokens(text))
        else:
            found.append(token)
    return tuple(found)


def fit_days(tokens: Sequence[Token], known: Mapping[str, Token]) -> tuple[Token, ...]:
    """Return the tokens with each date that stands for one of the `known` ones alone, by their bases, as that one."""
    return tuple(_fit_day(token, known) for token in tokens)


def _fit_day(token: Token, known: Mapping[str, Token]) -> Token:
    if token.day is None or token.base in known:
        return token
    found = [other for other in known.values() if other.day is not None and token.day.agrees_with(other.day)]
    return replace(token, base=found[0].base) if len(found) == 1 else token
