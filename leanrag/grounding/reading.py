"""A sentence as a row of tokens: words, names, and quantities, dates, times and identifiers with their values."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Literal

from leanrag.grounding.lexicon import (
    ARTICLES,
    AUXILIARIES,
    ENGLISH_CONTENT,
    FRAME_WORDS,
    IRREGULAR,
    NEGATIONS,
    PREPOSITIONS,
    SYNONYMS,
)
from leanrag.grounding.measures import (
    MONTHS,
    MULTIPLIERS,
    NUMBER_WORDS,
    ORDINALS,
    SCRIPT_NUMERALS,
    UNITS,
)
from leanrag.grounding.spelling import normalise
from leanrag.text import STOP_WORDS, stem

__all__ = ["Day", "Quantity", "Token", "base_of", "read_tokens"]

TokenKind = Literal["word", "quantity", "day", "time", "identifier", "script", "pause"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with what it counts in.

    Attributes:
        value: The number; of an amount with a unit, in the first unit of its dimension.
        number: The number as it was written.
        dimension: Of its unit; "" without one, "ordinal" of a rank.
    """

    value: float
    number: float
    dimension: str = ""

    def agrees_with(self, other: Quantity) -> bool:
        """Whether both may be the same amount; a number without a unit agrees with any unit."""
        if self.dimension and other.dimension:
            return self.dimension == other.dimension and _is_close(self.value, other.value)
        if "ordinal" in (self.dimension, other.dimension):
            return False
        return _is_close(self.number, other.number)


def _is_close(left: float, right: float) -> bool:
    return abs(left - right) <= 1e-6 * max(abs(left), abs(right))


@dataclass(frozen=True, slots=True)
class Day:
    """A date, as far as it was named: year, month and day of the month; `is_ambiguous` if day and month may be exchanged."""

    year: int | None
    month: int | None
    day: int | None
    is_ambiguous: bool = False

    def agrees_with(self, other: Day) -> bool:
        """Whether all parts that both name are equal, and this one names no part that the other leaves out but the year."""
        mine = [self, Day(self.year, self.day, self.month)] if self.is_ambiguous else [self]
        theirs = [other, Day(other.year, other.day, other.month)] if other.is_ambiguous else [other]
        return any(_fits(left, right) for left in mine for right in theirs)


def _fits(claim: Day, place: Day) -> bool:
    if claim.year is not None and place.year is not None and claim.year != place.year:
        return False
    return (claim.month is None or claim.month == place.month) and (claim.day is None or claim.day == place.day)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a sentence.

    Attributes:
        kind: What it is; a "script" token is a run of a script without spaces, a "pause" is punctuation.
        text: As written, normalised.
        word: In lower case.
        base: What stands for it in comparisons: the stem of the word, or of its synonyms.
        is_name: Whether it is written as a name.
        is_content: Whether it carries content.
        quantity: Its value, of a quantity.
        day: Its value, of a day.
    """

    kind: TokenKind
    text: str
    word: str
    base: str = ""
    is_name: bool = False
    is_content: bool = False
    quantity: Quantity | None = None
    day: Day | None = None

    def __hash__(self) -> int:
        return hash(
            (self.kind, self.text)
        )  # sentences are looked up by their tokens: the other fields nearly follow from these


@functools.lru_cache(maxsize=1 << 16)
def base_of(word: str) -> str:
    """Return what stands for a word in lower case: the first of its synonyms, or its stem."""
    word = IRREGULAR.get(word, word)
    if "\uac00" <= word[:1] <= "\ud7a3":
        return _KOREAN_PARTICLE.sub("", word)
    found = SYNONYMS.get(word) or SYNONYMS.get(stem(word))
    return stem(found or word)


_KOREAN_PARTICLE = re.compile(
    r"(?<=[가-힣]{2})(?:은|는|이|가|을|를|의|에|에서|에게|으로|로|와|과|도|이다|입니다|인가|인가요|이었다|이며|이고)\Z"
)

# ------------------------------------------------------------------------------------------------ tokens

_MONTH = "|".join(sorted((re.escape(month) for month in MONTHS), key=len, reverse=True))
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Signs that belong to letters
_MARKS = "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u0670\u06d6-\u06ed\u0900-\u0963\u0971-\u0de5"
_HAN_NUMERAL = "〇零一二三四五六七八九十百千两兩"
_NUMBER = r"\d{1,3}(?:'\d{3})+(?:[.,]\d+)?|\d+(?:[.,]\d+)*"
_TOKEN = re.compile(
    rf"""
    (?P<address>https?://[^\s<>"]*[\w/]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)
    |(?P<iso>(?<![\d.-])(?P<iy>\d{{4}})[-/.](?P<im>\d{{1,2}})[-/.](?P<id>\d{{1,2}})(?![\d-]))
    |(?P<han>(?P<hy>\d{{4}})年(?:(?P<hm>\d{{1,2}})月(?:(?P<hd>\d{{1,2}})日)?)?)
    |(?P<han_day>(?P<am>\d{{1,2}})月(?P<ad>\d{{1,2}})日)
    |(?P<spaced>(?<![\d.])(?P<sd>\d{{1,2}})\.\s(?P<sm>\d{{1,2}})\.\s(?P<sy>\d{{4}})(?!\d))
    |(?P<dmy>(?<![\d.])(?P<d1>\d{{1,2}})(?P<sep>[./])(?P<d2>\d{{1,2}})(?P=sep)(?P<d3>\d{{4}}|(?<=\d\d[./]\d\d[./])\d{{2}}(?![\d.])))(?![\d]|\.\d)
    |(?P<time>(?<![\d:])(?P<th>\d{{1,2}})(?::(?P<tm>\d{{2}})(?::(?P<ts>\d{{2}})(?:[.,]\d+)?)?)(?:\s?(?P<tp>[ap]\.?m\b\.?|uhr\b))?)
    |(?P<hour>(?<![\d.,])(?P<hh>\d{{1,2}})\s?(?P<hp>[ap]\.?m\b\.?|uhr\b|o'clock\b))
    |(?P<date>(?P<td>\d{{1,2}})(?:st|nd|rd|th|er|\.|º|ª)?\s+(?:of\s+|de\s+)?(?P<tmon>{_MONTH})\b\.?(?:,?\s+(?:de\s+|of\s+)?(?P<ty>\d{{4}}))?)
    |(?P<monthyear>\b(?P<my_m>{_MONTH})\b\.?,?\s+(?:de\s+|of\s+)?(?P<my_y>\d{{4}})(?!\d))
    |(?P<monthday>\b(?P<md_m>{_MONTH})\b\.?\s+(?:the\s+)?(?P<md_d>\d{{1,2}})(?:st|nd|rd|th)?(?!\d|[.,]\d)(?:,?\s+(?P<md_y>\d{{4}}))?)
    |(?P<dotted>(?<![\w.])v?\d+(?:[.]\d+){{2,}}(?:[-+._]?[a-z]+\.?\d*)?|\d+(?:[-_/:]\d+){{2,}})
    |(?P<path>(?<![\w/.])(?:[~.]{{0,2}}(?:/[\w.-]*\w){{2,}}|[a-z]:\\[\w.\\-]*\w|--?[a-z][a-z\d-]*[a-z\d](?!\w)|(?<!-)-[a-z](?![\w'-])|(?<![\w+])\+[a-z]\d{{0,2}}(?![\w'+])|(?<![\w.)])\.[a-z][a-z\d]{{0,4}}(?![\w.])
        |(?-i:\w[\w-]+(?:\.[a-z]{{2,5}})+(?:\.\d+)?)(?![\w(])))
    |(?P<reference>\#\d+)
    |(?P<letters>(?<!\w)(?=[a-z_.#:/-]*\d)[a-z]+\w*(?:[-_./:\#]\w+)*|(?<!\w)\w*_\w+(?:\.\w+)*)
    |(?P<figure>(?P<sign>(?<![\w)'.])[-+])?(?:(?P<currency>us\$|[$€£¥₹])\s?)?(?P<number>{_NUMBER})(?P<power>\^-?\d+)?)
    |(?P<currency_word>\b(?:usd|eur|gbp|chf|inr)(?=\s?\d))
    |(?P<script>[{_SPACELESS}]+)
    |(?P<word>(?:°[cf]?)|[^\W\d_](?:[^\W\d_]|[{_MARKS}])*)
    |(?P<operator>(?<=\s)(?:[=!]=|\*\*|&&|\|\||[*<>%])(?=\s))
    |(?P<symbol>%|<=|>=)
    |(?P<pause>(?!(?<=[\s("'`*])\.[^\W\d])[.,;:!?()\[\]|"“”«»，、；：。！？।؟،؛/+=-])
    """,
    re.IGNORECASE | re.VERBOSE,
)
_RANK = re.compile(r"(?:st|nd|rd|th|º|ª|ème|e)\b", re.IGNORECASE)
_UNIT = re.compile(
    rf"[\s-]?(?P<unit>%|°[cf]?|points_percent|(?:km|m)/[hs]\b|[$€£¥₹]|[{_SPACELESS}]{{1,4}}|(?:c|k)?m[23]\b|µ?[^\W\d_]+)",
    re.IGNORECASE,
)
_MULTIPLIER = re.compile(r"[\s-]?(?P<multiplier>[万萬億亿억만]|[^\W\d_]+)\.?", re.IGNORECASE)
_TELLING_NEGATIONS = frozenset("lack lacks lacking lacked fail fails failed refuse refuses refused unable".split())
_SHORT_UNITS = frozenset("m g t s h d l w v b k in ps pa an min sec mi ft oz ha hp".split())
_MONTH_WORDS = frozenset(month for month in MONTHS if len(month) > 3) - {
    "march",
    "may",
    "mars",
    "august",
    "mayo",
    "marzo",
}


_PLAIN = re.compile(r"""\s*(?:([A-Za-zÀ-ÖØ-öø-ɏΑ-ωА-яЁё]+)(?=[\s,;)"]|\.?\Z|[.:]\s)|([,;:.!?()"])(?=\s|\Z))""")
"""A word or a pause that is nothing else; most are, and `_TOKEN` takes long."""

_ENGLISH_WORDS = frozenset("due once elf dos".split())  # that are number words of other languages
_AMBIGUOUS = frozenset(
    [*NUMBER_WORDS, *ORDINALS, *MONTHS, *"one dozen hundred thousand million usd eur gbp chf inr".split()]
)
"""Words that may begin a number, a date or an amount."""

_CAMEL_CASE = re.compile(r"[a-z]{2,}[A-Z]\w*|(?:[A-Z][a-z]+){3,}")
_SENTENCE_SIGNS = frozenset('.!?:;"“([|-')


def read_tokens(text: str, *, decimal_comma: bool = False, german: bool = False) -> tuple[Token, ...]:
    """Return the tokens of a sentence.

    Args:
        text: As written.
        decimal_comma: Whether "1,234" is a number between one and two.
        german: Whether capital letters show nouns rather than names.
    """
    return _read_tokens(text, decimal_comma, german)


@functools.lru_cache(maxsize=8192)
def _read_tokens(text: str, decimal_comma: bool, german: bool) -> tuple[Token, ...]:
    text = normalise(text)
    tokens: list[Token] = []
    start = 0
    is_first = True
    is_english = not (german or decimal_comma)
    while True:
        plain = _PLAIN.match(text, start)
        if plain is not None and (plain[2] or plain[1].casefold() not in _AMBIGUOUS):
            has_nouns = german and not _follows_title(tokens)
            token = _pause_token(plain[2]) if plain[2] else _plain_token(plain[1], is_first, has_nouns, is_english)
            tokens.append(token)
            start = plain.end()
            is_first = token.kind == "pause" and token.text in _SENTENCE_SIGNS
            continue
        found = _TOKEN.search(text, start)
        if found is None:
            return tuple(_join_verbs(tokens) if german else tokens)
        start = found.end()
        if found["figure"]:
            token, start = _read_figure(text, found, decimal_comma)
        elif found["word"] or found["symbol"] or found["currency_word"]:
            token, start = _read_word(text, found, is_first, german, is_english=is_english)
        elif found["script"]:
            tokens += _read_script(found["script"])
            continue
        else:
            token = _read_other(found)
        tokens.append(token)
        is_first = token.kind == "pause" and token.text in _SENTENCE_SIGNS


_TITLES = frozenset("herr herrn frau familie dr prof".split())


def _follows_title(tokens: list[Token]) -> bool:
    """Whether the next word is the name of a person, behind a title such as "Frau" or "Dr."."""
    if tokens and tokens[-1].text == ".":
        tokens = tokens[:-1]
    return bool(tokens) and tokens[-1].word in _TITLES


@functools.lru_cache(maxsize=64)
def _pause_token(sign: str) -> Token:
    return Token("pause", sign, sign)


def _read_other(found: re.Match[str]) -> Token:
    """A date, time, identifier or pause."""
    text, word = found[0], found[0].casefold()
    day = _read_day(found)
    if day is not None:
        return Token("day", text, word, f"day:{day.year}-{day.month}-{day.day}", is_content=True, day=day)
    if found["time"] or found["hour"]:
        base = _read_time(found["th"] or found["hh"], found["tm"], found["tp"] or found["hp"])
        base += f":{found['ts']}" if found["ts"] else ""
        return Token("time", text, word, base, is_content=True)
    if found["pause"]:
        return Token("pause", text, word)
    if found["operator"]:
        return Token("word", text, word, word)
    if text[0] == "+" or (len(text) == 2 and text[0] == "-"):
        return Token("identifier", text, text, text, is_content=True)  # -h and -H are two options
    base = re.sub(r"(?<=[a-z])[-_ ](?=\d)|(?<=\d)[-_ ](?=[a-z])", "", word)
    if re.fullmatch(r"v\d+(?:\.\d+)*", base):
        base = base[1:]
    return Token("identifier", text, word, base.strip("._-/#"), is_content=True)


_NUMERIC_DAYS = {"iso": ("iy", "im", "id"), "han": ("hy", "hm", "hd"), "spaced": ("sy", "sm", "sd")}
_NAMED_DAYS = {"date": ("ty", "tmon", "td"), "monthday": ("md_y", "md_m", "md_d")}
"""The groups of a date's year, month and day in `_TOKEN`."""


def _read_day(found: re.Match[str]) -> Day | None:
    for name, (year, month, day) in _NUMERIC_DAYS.items():
        if found[name]:
            return Day(int(found[year]), _whole(found[month]), _whole(found[day]))
    for name, (year, month, day) in _NAMED_DAYS.items():
        if found[name]:
            return Day(_whole(found[year]), MONTHS[found[month].casefold()], int(found[day]))
    if found["monthyear"]:
        return Day(int(found["my_y"]), MONTHS[found["my_m"].casefold()], None)
    if found["han_day"]:
        return Day(None, int(found["am"]), int(found["ad"]))
    return _read_numeric_day(found) if found["dmy"] else None


def _whole(digits: str | None) -> int | None:
    return int(digits) if digits else None


def _read_numeric_day(found: re.Match[str]) -> Day:
    first, second, year = int(found["d1"]), int(found["d2"]), int(found["d3"])
    year += 2000 if year < 50 else 1900 if year < 100 else 0
    if found["sep"] == "." or first > 12:
        return Day(year, second, first)
    if second > 12:
        return Day(year, first, second)
    return Day(year, second, first, is_ambiguous=first != second)


def _read_time(hour: str, minute: str | None, period: str | None) -> str:
    hours = int(hour) % 24
    letter = (period or "")[:1].casefold()
    if letter == "p" and hours < 12:
        hours += 12
    elif letter == "a" and hours == 12:
        hours = 0
    return f"time:{hours}:{int(minute or 0):02d}"


def _read_number(digits: str, decimal_comma: bool) -> float:
    """The value of digits with points, commas and apostrophes between them."""
    digits = digits.replace("'", "")
    points, commas = digits.count("."), digits.count(",")
    if points and commas:
        decimal = "," if digits.rfind(",") > digits.rfind(".") else "."
    elif points + commas > 1:
        decimal = ""
    elif commas:
        decimal = "," if decimal_comma or not re.fullmatch(r"[1-9]\d{0,2},\d{3}", digits) else ""
    else:
        decimal = "" if decimal_comma and re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", digits) else "."
    whole, _, fraction = digits.rpartition(decimal) if decimal and decimal in digits else (digits, "", "")
    return float(re.sub(r"[.,]", "", whole or "0") + "." + (fraction or "0"))


_EURO = re.compile(r"\s?(?:€|eur(?:os?)?\b)", re.IGNORECASE)
_GLUED = re.compile(r"[a-z]+[\w-]*", re.IGNORECASE)
_SCALE = re.compile(r"\s?(c|f|celsius|fahrenheit)\b", re.IGNORECASE)
_AMOUNT = re.compile(rf"\s?(?P<number>{_NUMBER})")


def _read_figure(text: str, found: re.Match[str], decimal_comma: bool) -> tuple[Token, int]:
    """A number in figures, and where its unit ends."""
    end = found.end()
    decimal_comma = decimal_comma or ("," not in found["number"] and _EURO.match(text, end) is not None)
    try:
        number = _read_number(found["number"], decimal_comma)
        if found["power"]:
            number = number ** int(found["power"][1:]) if abs(int(found["power"][1:])) < 50 else number
    except (OverflowError, ValueError, ZeroDivisionError):
        number = float("inf")
    if found["sign"] == "-":
        number = -number
    written = found[0].strip()
    if rank := _RANK.match(text, end):
        quantity = Quantity(number, number, "ordinal")
        return _quantity_token(written + rank[0], quantity), rank.end()
    glued = _GLUED.match(text, end)
    if glued and not _is_unit(glued[0]) and glued[0].casefold() not in {"k", "m", "bn", "x", "s"}:
        whole = written + glued[0]
        return Token(
            "identifier", whole, whole.casefold(), whole.casefold().replace("-", ""), is_content=True
        ), glued.end()
    return _with_unit(text, written, number, found["currency"] or "", end)


def _with_unit(text: str, written: str, number: float, currency: str, end: int) -> tuple[Token, int]:
    """A quantity of the number and of the multiplier and unit behind it."""
    while multiplier := _MULTIPLIER.match(text, end):
        word = multiplier["multiplier"].casefold()
        short = {"k": 1e3, "m": 1e6} if currency or (word == "k" and multiplier[0][0] not in " -") else {}
        factor = MULTIPLIERS.get(word) or short.get(word)
        if factor is None:
            break
        number *= factor
        end = multiplier.end() if not multiplier[0].endswith(".") or word in {"mio", "mrd"} else multiplier.end() - 1
    name = currency.casefold()
    if not name and (unit := _UNIT.match(text, end)):
        name = _unit_name(unit["unit"])
        end = unit.start("unit") + len(name) if name else end
    if text.startswith(" _below_zero", end):
        number, end = -abs(number), end + len(" _below_zero")
    dimension, factor = UNITS.get(name, ("", 1.0))
    if dimension == "angle" and (scale := _SCALE.match(text, end)):
        dimension, end = ("celsius" if scale[1][0] in "cC" else "fahrenheit"), scale.end()
    return _quantity_token(written, Quantity(number * factor, number, dimension)), end


def _quantity_token(written: str, quantity: Quantity) -> Token:
    base = f"{quantity.number:g}" + (f" {quantity.dimension}" if quantity.dimension == "ordinal" else "")
    return Token("quantity", written, written.casefold(), base, is_content=True, quantity=quantity)


def _is_unit(name: str) -> bool:
    return bool(_unit_name(name))


def _unit_name(name: str) -> str:
    """The unit that `name` is, or that a run of a script without spaces begins with; "" if it is none."""
    folded = name.casefold()
    if folded in _SHORT_UNITS and name != folded and folded not in {"l", "w", "v", "h"}:
        return ""  # "5 M", "5 In"
    if folded in UNITS:
        return folded
    if re.match(f"[{_SPACELESS}]", name):
        return next((folded[:n] for n in range(len(folded), 0, -1) if folded[:n] in UNITS), "")
    return ""


_IS_MONTH = re.compile(r"\b(?:in|since|until|by|during|last|this|next|of|early|late|mid)[ -]\Z")
_EMPTY = STOP_WORDS | FRAME_WORDS | ARTICLES | AUXILIARIES | PREPOSITIONS | NEGATIONS - _TELLING_NEGATIONS
_IS_SECOND = re.compile(r"\b(?:the|a|an|her|his|its|their|every|each|my|our)\s+$", re.IGNORECASE)


def _read_word(text: str, found: re.Match[str], is_first: bool, german: bool, *, is_english: bool) -> tuple[Token, int]:
    """A word, or a quantity that begins with one ("twenty-one metres")."""
    written, word = found[0], found[0].casefold()
    if found["currency_word"]:
        amount = _AMOUNT.match(text, found.end())
        if amount:
            return _with_unit(text, found[0] + amount[0], _read_number(amount["number"], False), word, amount.end())
    is_number = word in NUMBER_WORDS and not (is_english and word in _ENGLISH_WORDS)
    if is_number or (word == "one" and _has_unit(text, found.end())):
        number, end = _read_number_words(text, float(NUMBER_WORDS.get(word, 1)), found.end())
        return _with_unit(text, text[found.start() : end], number, "", end)
    if word in {"dozen", "hundred", "thousand", "million"} and re.search(
        r"\ba\s$", text[max(0, found.start() - 2) : found.start()]
    ):
        return _with_unit(text, written, MULTIPLIERS[word], "", found.end())
    if word in ORDINALS and (word != "second" or _IS_SECOND.search(text, max(0, found.start() - 8), found.start())):
        rank = ORDINALS[word]
        return _quantity_token(written, Quantity(rank, rank, "ordinal")), found.end()
    may_be_month = word in {"march", "may"} and written[0].isupper() and not german
    if may_be_month and _IS_MONTH.search(text[max(0, found.start() - 8) : found.start()]):
        return _month_token(written), found.end()
    return _plain_token(written, is_first, german, is_english), found.end()


def _month_token(written: str) -> Token:
    day = Day(None, MONTHS[written.casefold()], None)
    return Token("day", written, written.casefold(), f"day:None-{day.month}-None", is_content=True, day=day)


@functools.lru_cache(maxsize=1 << 16)
def _plain_token(written: str, is_first: bool, german: bool, is_english: bool) -> Token:
    """A word that means the same before all others."""
    word = written.casefold()
    if _CAMEL_CASE.fullmatch(written):
        return Token("identifier", written, word, word, is_content=True)
    is_name = written[0].isupper() and not german and (len(written) > 1 or not is_first)
    if is_name and is_first:
        is_name = written[1:] != written[1:].lower() or word not in STOP_WORDS
    if is_name and word in _MONTH_WORDS:
        return _month_token(written)
    is_content = word not in _EMPTY or (is_english and word in ENGLISH_CONTENT)
    is_shouted = len(written) > 1 and written.isupper()
    if is_name and not is_first and len(written) == 1 and word not in ARTICLES | {"i"}:
        is_content = True  # "vitamin C"
    if not is_content and is_name and (is_shouted or not is_first) and word not in ARTICLES | {"i"} and len(word) > 2:
        is_content = word not in STOP_WORDS
    participle = _GERMAN_PARTICIPLE.fullmatch(word) if german and word not in SYNONYMS else None
    base = base_of((participle[1] or "") + participle[2] if participle else word)
    return Token("word", written, word, base, is_name, is_content)


_VERB_PREFIXES = "ab|an|auf|aus|bei|ein|fest|her|hin|mit|nach|um|vor|weg|zu|zurück"
_GERMAN_PARTICIPLE = re.compile(rf"({_VERB_PREFIXES})?ge(\w{{3,}})t")
_GERMAN_VERB = re.compile(r"(\w{2,}?)(?:e?t|e?ten?|en)")
_CLAUSE_ENDS = frozenset("und oder aber sondern".split())


def _join_verbs(tokens: list[Token]) -> list[Token]:
    """Return the tokens of a German sentence, each verb joined with the prefix that ends its clause ("holt ... ab")."""
    verb: int | None = None
    for i, token in enumerate(tokens):
        if token.kind == "pause" or token.word in _CLAUSE_ENDS:
            verb = None
        elif verb is None and token.is_content and token.text.islower() and _GERMAN_VERB.fullmatch(token.word):
            verb = i
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        is_last = following is None or following.kind == "pause" or following.word in _CLAUSE_ENDS
        if is_last and verb is not None and verb != i and token.word in _SEPARATED:
            root = _GERMAN_VERB.fullmatch(tokens[verb].word)
            if root is not None:
                tokens[verb] = replace(tokens[verb], base=base_of(token.word + root[1]))
    return tokens


_SEPARATED = frozenset(_VERB_PREFIXES.split("|"))


def _has_unit(text: str, end: int) -> bool:
    unit = _UNIT.match(text, end)
    multiplier = _MULTIPLIER.match(text, end)
    return bool(unit and _is_unit(unit["unit"])) or bool(
        multiplier and multiplier["multiplier"].casefold() in MULTIPLIERS
    )


_NEXT_WORD = re.compile(r"(?:\sand\s|[\s-])([^\W\d_]+)", re.IGNORECASE)


def _read_number_words(text: str, number: float, end: int) -> tuple[float, int]:
    """The value of a number in words, whose first word was worth `number`, and where it ends."""
    total = 0.0
    while following := _NEXT_WORD.match(text, end):
        word = following[1].casefold()
        value = NUMBER_WORDS.get(word, 1.0 if word == "one" else None)
        if word in {"hundred", "thousand", "million", "hundert", "tausend"}:
            number *= MULTIPLIERS[word]
            if word != "hundred":
                total, number = total + number, 0.0
        elif (
            value is not None and value < 10 and number and number % 10 == 0 and " and " not in following[0].casefold()
        ) or (value is not None and (number == 0 or number % 100 == 0) and (number or total) and value < 100):
            number += value
        else:
            break
        end = following.end()
    return total + number, end


_SCRIPT_COUNTED = re.compile(
    "[个名人年月日天小点分岁次元块米公里斤吨台家条件位层楼本页间百千万億亿円歳回階時分番つ%％]"
)


def _read_script(run: str) -> list[Token]:
    """A run of a script without spaces; numbers in Han numerals before a counted noun are quantities as well."""
    tokens = [Token("script", run, run, run, is_content=True)]
    for found in re.finditer(rf"(第?)([{_HAN_NUMERAL}]+)(万|億|亿)?", run):
        following = run[found.end() : found.end() + 1]
        if (following and _SCRIPT_COUNTED.match(following)) or len(found[2]) > 1 or found[3]:
            value = _read_han(found[2]) * MULTIPLIERS.get(found[3] or "", 1.0)
            name = _unit_name(run[found.end() : found.end() + 4]) if not found[1] else ""
            dimension, factor = ("ordinal", 1.0) if found[1] else UNITS.get(name, ("", 1.0))
            tokens.append(_quantity_token(found[0], Quantity(value * factor, value, dimension)))
    return tokens


def _read_han(numerals: str) -> float:
    if not any(character in "十百千" for character in numerals):
        return float("".join(str(SCRIPT_NUMERALS[character]) for character in numerals))
    total = number = 0
    for character in numerals:
        value = SCRIPT_NUMERALS[character]
        if value >= 10:
            total, number = total + (number or 1) * value, 0
        else:
            number = value
    return float(total + number)
