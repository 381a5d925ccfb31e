"""Writes GBNF for the numbers within bounds."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import NamedTuple

__all__ = ["MAX_INTEGER", "Bound", "write_decimals", "write_integers"]

MAX_INTEGER = 10**16 - 1
_DIGITS = 15  # two decimals of at most 15 digits are different as floats too


class Bound(NamedTuple):
    """The least or the greatest number; `is_open` if it is not a value itself."""

    value: Decimal
    is_open: bool = False


def write_integers(least: int, most: int) -> list[str]:
    """Return GBNF for the integers from `least` to `most`: alternatives."""
    parts = []
    if least < 0:
        parts += [f'"-" ({part})' for part in _naturals(max(1, -most), -least)]
    if most >= 0:
        parts += _naturals(max(0, least), most)
    return parts


def write_decimals(least: Bound, most: Bound) -> list[str]:
    """Return GBNF for decimal numbers from `least` to `most`, without exponents: alternatives, none if there is no such number.

    A bound with more than 15 digits is rounded, and the fraction is so short that a float is within the bounds if its text is.
    """
    if least.value > MAX_INTEGER or most.value < -MAX_INTEGER:
        return []
    least, most = _round(least, ROUND_CEILING), _round(most, ROUND_FLOOR)
    places = min(_places(bound) for bound in (least, most))
    zero = Bound(Decimal(0))
    parts = []
    if least.value < 0:
        low = Bound(-most.value, most.is_open) if most.value <= 0 else zero
        parts += [f'"-" ({part})' for part in _positive(low, Bound(-least.value, least.is_open), places)]
    if most.value >= 0:
        parts += _positive(least if least.value >= 0 else zero, most, places)
    return parts


def _round(bound: Bound, rounding: str) -> Bound:
    limit = Decimal(MAX_INTEGER)
    if abs(bound.value) >= limit:  # no longer number is written
        return Bound(limit.copy_sign(bound.value))
    value = Context(prec=_DIGITS, rounding=rounding).plus(bound.value)
    return Bound(value, bound.is_open and value == bound.value)


def _places(bound: Bound) -> int:
    """Return the most digits after the point of a number near `bound`; without a real bound, many."""
    size = len(str(abs(int(bound.value))))
    return _DIGITS - 1 if abs(bound.value) == MAX_INTEGER else max(0, _DIGITS - size)


class _Edge(NamedTuple):
    """A bound of a fraction: its digits without zeros at the end."""

    digits: str
    is_open: bool

    @property
    def rest(self) -> _Edge:
        return _Edge(self.digits[1:], self.is_open)

    @property
    def digit(self) -> int:
        return int(self.digits[:1] or 0)


_LEAST = _Edge("", False)


def _positive(least: Bound, most: Bound, places: int) -> list[str]:
    """Return GBNF for the numbers from `least` to `most`, at least 0."""
    (first, low), (last, high) = _split(least), _split(most)
    if first > last:
        return []
    if first == last:
        return _numbers(first, low, high, places)
    between = _naturals(first + 1, last - 1) if first + 1 < last else []
    return [
        *_numbers(first, low, None, places),
        *(f"({part}){_optional(f'[0-9]{{1,{places}}}') if places else ''}" for part in between),
        *_numbers(last, _LEAST, high, places),
    ]


def _split(bound: Bound) -> tuple[int, _Edge]:
    whole, _, digits = format(bound.value, "f").partition(".")
    return int(whole), _Edge(digits.rstrip("0"), bound.is_open)


def _optional(digits: str) -> str:
    return f' ("." ({digits}))?'


def _numbers(whole: int, low: _Edge, high: _Edge | None, places: int) -> list[str]:
    """Return GBNF for the numbers with this whole part whose fraction is within the edges."""
    may_be_whole, fractions = _fractions(low, high, places)
    written = " | ".join(fractions)
    if may_be_whole:
        return [f'"{whole}"' + (_optional(written) if written else "")]
    return [f'"{whole}." ({written})'] if written else []


def _fractions(low: _Edge, high: _Edge | None, places: int) -> tuple[bool, list[str]]:
    """Return whether no more digits are needed, and GBNF for one to `places` more digits of a fraction within the edges."""
    may_end = low == _LEAST and (high is None or bool(high.digits) or not high.is_open)
    if places == 0:
        return may_end, []
    if low == _LEAST and high is None:
        return True, [f"[0-9]{{1,{places}}}"]
    if low == high == _LEAST:
        return True, [f'"0"{{1,{places}}}']
    first, last = low.digit, 9 if high is None else high.digit
    edges = {first} if high is None else {first, last}
    written = []
    for digit in sorted(edges):
        next_low = low.rest if digit == first else _LEAST
        next_high = high.rest if high is not None and digit == last else None
        if first <= digit <= last:
            ends, more = _fractions(next_low, next_high, places - 1)
            if more:
                written.append(f'"{digit}" ({" | ".join(more)})' + ("?" if ends else ""))
            elif ends:
                written.append(f'"{digit}"')
    first_free, last_free = first + 1, last if high is None else last - 1
    if first_free <= last_free:
        rest = f" [0-9]{{0,{places - 1}}}" if places > 1 else ""
        written.append(f"[{first_free}-{last_free}]{rest}")
    return may_end, written


def _naturals(least: int, most: int) -> list[str]:
    """Return GBNF for the decimal numbers from `least` to `most`: an alternative for each number of digits."""
    sizes = range(len(str(least)), len(str(most)) + 1)
    return [_digits(str(max(least, 10 ** (n - 1) if n > 1 else 0)), str(min(most, 10**n - 1))) for n in sizes]


def _digits(low: str, high: str) -> str:
    """Return GBNF for the strings of digits from `low` to `high`, which have the same length."""
    if len(low) == 1:
        return f"[{low}-{high}]"
    first, last, size = int(low[0]), int(high[0]), len(low) - 1
    if first == last:
        return f"[{first}] ({_digits(low[1:], high[1:])})"
    before, after = [], []
    if low[1:] != "0" * size:
        before = [f"[{first}] ({_digits(low[1:], '9' * size)})"]
        first += 1
    if high[1:] != "9" * size:
        after = [f"[{last}] ({_digits('0' * size, high[1:])})"]
        last -= 1
    between = [f"[{first}-{last}] [0-9]{{{size}}}"] if first <= last else []
    return " | ".join(before + between + after)
