r"""The words of full-text search: what is indexed of a chunk, and what a question asks for.

Text is normalised first, so that a word has one form, whoever typed it. Words between spaces are left to the tokenizer of
SQLite. Everything else becomes extra terms:

- Identifiers (versions, dates, IP addresses, part numbers, error codes, names in code) are indexed whole and in parts.
  The whole form keeps a mark between two runs of digits and no other separator: `1.2.3` is neither `1.3.2` nor `123`,
  but `HX-20B` is `HX20B`.
- Scripts without spaces become overlapping n-grams.
- A Hangul word adds its pairs of syllables, because particles are written onto the noun. An Arabic or Hebrew word adds
  its form without article, prepositions and endings.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

__all__ = [
    "COLUMNS",
    "COLUMN_WEIGHTS",
    "TOKENIZER",
    "Query",
    "indexed_columns",
    "normalize",
    "parse_query",
    "quote_term",
]

COLUMNS = ("title", "heading", "body", "extra")
# Weights of a term in each column: `bm25()` adds them up before saturation, as BM25F does.
COLUMN_WEIGHTS = (2.0, 2.0, 1.0, 1.0)

# A word is made of letters, digits, the marks that normalisation leaves, and the private mark inside identifiers.
TOKENIZER = "porter unicode61 remove_diacritics 0 categories ''L* N* M* Co''"

# Left out of a question that has other words: seven times quicker on 10,000 chunks, and one point better on SQuAD.
_STOP_WORDS = frozenset(
    """a an and are as at be but by did do does for from had has have he her his how i if in into is it its me my of on
    or our s she so such t that the their then there these they this to was we were what when where which who whom whose
    why will with would you your""".split()
)

_MAX_IDENTIFIERS = 100  # each costs a look into the index, and a document may be pasted as a question

_T = TypeVar("_T")


# Normalisation

# Soft hyphen, joiners, zero width, direction, variation selectors, the Arabic tatweel, private use (as in this module).
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u0640\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ue000-\uf8ff\U000e0000-\U0010ffff]+"
)
_HYPHEN = re.compile("[‐‑−﹣－]")
_APOSTROPHE = re.compile("[’‘ʼʹ′＇]")
_EXPONENT = re.compile("(?<=[0-9])[⁰¹²³⁴-⁹]")
_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_THOUSANDS = re.compile(r",(?<=\d,)(?=\d{3}(?!\d))")  # the literal first: found quicker
# Accents of alphabets, Hebrew points and Arabic vowels; not the vowels and tones of Indic and South-East Asian scripts.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u2de0-\u2dff\ufb1e\ufe20-\ufe2f]+"
)
_LETTERS = {"ı": "i", "ø": "o", "ł": "l", "đ": "d", "ħ": "h", "æ": "ae", "œ": "oe"}
_LETTERS |= {"ٱ": "ا", "ى": "ي", "ی": "ي", "ک": "ك", "ة": "ه"}  # spellings of one Arabic letter
_LETTER = re.compile(f"[{''.join(_LETTERS)}]")
_TIME_MARK = re.compile(r"([0-9])[Tt](?=[0-9]{2}:?[0-9]{2})")  # between date and time; `\d` is found much slower


def normalize(text: str) -> str:
    """Return `text` in the form in which words are compared, without case, accents and invisible characters.

    Example:
        >>> normalize("ﬁnd İSTANBUL’da re\u0301su\u00adme\u0301")
        "find istanbul'da resume"
    """
    return _fold(_unify(text))


def _unify(text: str) -> str:
    """Return `text` in compatibility form, its case and accents as they were."""
    if not text.isascii():
        text = _HYPHEN.sub("-", _APOSTROPHE.sub("'", _INVISIBLE.sub("", text)))
        text = _EXPONENT.sub(r"^\g<0>", text)  # 10⁶ is not 106
        text = unicodedata.normalize("NFKC", text).encode("utf-8", "replace").decode()
        text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    return _TIME_MARK.sub(r"\1 ", _THOUSANDS.sub("", text))


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    text = _ACCENTS.sub("", unicodedata.normalize("NFD", text.casefold()))
    return _LETTER.sub(lambda letter: _LETTERS[letter[0]], unicodedata.normalize("NFC", text))


# Identifiers

_DIGIT_MARK = "\ue000"  # stands between two runs of digits of an identifier
_RELEASE_MARK = "\ue002"  # begins the term of a version that is not a pre-release
_PRERELEASE = re.compile(r"[-._+]?(?:alpha|beta|canary|dev|m|nightly|pre|preview|rc|snapshot|[ab](?=\d))[-._]?\d*\b")
_ALNUM = (
    "[0-9A-Za-z\u00c0-\u024f\u0370-\u052f]"  # no script whose words have no spaces, or particles, around identifiers
)
_SEPARATOR = r"[-._:/\\+@#=&?%~]"
_TOKEN = re.compile(rf"{_ALNUM}+(?:{_SEPARATOR}{{1,3}}{_ALNUM}+)*")
_RUN = re.compile(r"\d+|[^\W\d_]+")
_DIGIT_CHAIN = re.compile(rf"\d+(?:{_SEPARATOR}\d+)+")
_STRUCTURE = re.compile(r"[0-9_A-Z](?:(?<=[0-9_])|(?<=[a-z][A-Z]))")  # one set of characters first: found quicker
_CASE_CHANGE = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NAME_BREAK = re.compile(r"[\\/:+@#=&?%~]+")  # parts the names of a path, a URL, a setting
_MEASURE = re.compile(r"(\d+)([a-z]{1,3})")
_NAMED_NUMBER = re.compile(  # what a short number identifies together with the word before it
    r"\b(?P<name>article|bay|build|case|chapter|clause|code|error|exit|figure|gate|invoice|issue|item|level|line|lot|model"
    r"|order|page|paragraph|part|patch|port|release|revision|room|row|rule|section|slot|status|step|table|ticket|track"
    r"|unit|version)s?\.? #?(?P<number>\d{1,4})(?![-\d.:/]*\d)"
)
_SECTION = re.compile(r"\b\d{1,3}(?:[^\w\s]{0,2} (?:[a-z]{1,9}[^\w\s]? )?[^\w\s]?\d{1,3}\b){1,3}")  # § 3 Abs. 2, 3 (2)
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th|s)")


_MONTHS = {
    name: i % 12 + 1
    for i, name in enumerate(
        "january february march april may june july august september october november december"
        " jan feb mar apr may jun jul aug sep oct nov dec"
        " januar februar marz april mai juni juli august september oktober november dezember"
        " janvier fevrier mars avril mai juin juillet aout septembre octobre novembre decembre"
        " enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split()
    )
}
_NAMED_MONTHS = (
    re.compile(
        r"\b(?P<day>\d{1,2})(?:st|nd|rd|th|er|\.)? (?:de |of )?(?P<month>[a-z]{3,10})\.?,? (?:de )?(?P<year>\d{4})\b"
    ),
    re.compile(r"\b(?P<month>[a-z]{3,10})\.? (?P<day>\d{1,2})(?:st|nd|rd|th)?,? (?P<year>\d{4})\b"),
)
_YEAR_LAST = re.compile(r"(?<![\d.])(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})(?![\d.]*\d)")  # 5.3.2024
_YEAR_FIRST = re.compile(r"(?<![-\d/])(?P<year>\d{4})[-/](?P<month>\d{1,2})[-/](?P<day>\d{1,2})(?![-\d/])")
_DATES_AT = {" ": _NAMED_MONTHS, ".": (_YEAR_LAST,)}  # by the character before the year
_YEAR = re.compile(r"[0-9]{4}")
_DATE_BEFORE, _DATE_AFTER = 40, 16  # characters around the year that a written date may take


def _written_dates(line: str) -> list[str]:
    """Return the dates of a folded text, single spaces between its words, in the form that `2024-03-05` has."""
    dates: dict[int, str] = {}
    for year in _YEAR.finditer(line):
        begin, end = max(year.start() - _DATE_BEFORE, 0), year.end() + _DATE_AFTER
        patterns = _DATES_AT.get(line[year.start() - 1 : year.start()], ())
        patterns += (_YEAR_FIRST,) if line[year.end() : year.end() + 1] in ("-", "/") else ()
        for date in (match for pattern in patterns for match in pattern.finditer(line, begin, end)):
            month = int(date["month"]) if date["month"].isdecimal() else _MONTHS.get(date["month"])
            if month is not None:
                dates[date.start("year")] = _DIGIT_MARK.join((date["year"], f"{month:02}", f"{int(date['day']):02}"))
    return list(dates.values())


@dataclass(frozen=True, slots=True)
class _Identifier:
    """An identifier of a text, in canonical forms.

    Attributes:
        whole: All of it.
        parts: Pieces of it.
        keys: What a question that names it looks for: the whole, or else any piece that says as much alone. Empty for
            what may stand in any text: a year, a short number, an ordinal, a word with a capital inside.
    """

    whole: str
    parts: tuple[str, ...]
    keys: tuple[str, ...]


_GROUPED = re.compile(r"(?:[a-z]{1,4}-?)?\d+(?:-[0-9a-z]+)+")  # 978-3-16-148410-0, DE-100-200
_SPACED = re.compile(r"\b(?:[a-z]{2})?\d+(?: \d{2,}){2,}\b")  # DE89 3704 0044
_SIZE = re.compile(r"\b(?P<first>[a-z]?\d+) ?[x×] ?(?P<second>\d+)\b")
_SPACED_DIGITS = re.compile(r"[0-9](?: (?:[0-9]{2}|[x×])|[x×])")  # found quickly, where one of the two before may be
_MIN_DIGITS = 9  # of a number without letters that may be written in groups or at once; a date has 8


def _joined(group: str) -> str:
    """Return a number that is written in groups as it is written at once; "" if it is too short to be told from others."""
    number = group.replace(" ", "").replace("-", "")
    return "" if number.isdecimal() and len(number) < _MIN_DIGITS else number


def _spaced_numbers(folded: str) -> list[str]:
    """Return the numbers that are written in groups between spaces, at once, and the sizes in the form of `8x20`."""
    if not _SPACED_DIGITS.search(folded):
        return []
    numbers = [_joined(match[0]) for match in _SPACED.finditer(folded)]
    return [*numbers, *(f"{size['first']}x{size['second']}" for size in _SIZE.finditer(folded))]


_OPTION = re.compile(r"-(?<![\w-]-)(?:-(?P<name>[a-z][\w-]+)|(?P<letter>[a-z]\b(?!-)))")  # --keep-index, -n
_OPTION_MARK = "\ue003"  # begins the term of an option of a command


def _options(folded: str) -> list[str]:
    return [_OPTION_MARK + (option["name"] or option["letter"]).replace("-", "") for option in _OPTION.finditer(folded)]


def _find_identifiers(line: str) -> Iterator[_Identifier]:
    """Yield the identifiers of a unified text that has single spaces between its words."""
    for token in _TOKEN.findall(" ".join(_structured_words(line))):
        identifier = _read_identifier(token)
        if identifier is not None:
            yield identifier


@functools.lru_cache(maxsize=1 << 14)  # years and numbers repeat
def _read_identifier(token: str) -> _Identifier | None:
    """Return what identifies a token; None for words."""
    if not _has_structure(token):
        return None
    lower = _fold(token)
    names, chains = _NAME_BREAK.split(lower), _DIGIT_CHAIN.findall(lower)
    pieces = [*names, *(piece for name in names if "-" in name for piece in name.split("-")), *chains]
    forms = [_canonical(piece) for piece in pieces if _has_structure(piece)]
    forms += _fold(_CASE_CHANGE.sub(" ", token)).split() if _CASE_CHANGE.search(token) else []
    forms += [part for piece in names if (found := _MEASURE.fullmatch(piece)) for part in found.groups()]
    releases = _releases(lower)
    joined = _joined(lower) if _GROUPED.fullmatch(lower) else ""
    whole = _canonical(lower)
    keys = [whole, *map(_canonical, filter(_is_decisive, names)), *(_canonical(chain) for chain in chains), joined]
    if _RELEASE_MARK + whole in releases:
        keys.insert(0, _RELEASE_MARK + whole)
    forms += [*releases, joined]
    parts = tuple(form for form in _distinct(forms) if form != whole)
    return _Identifier(whole, parts, _distinct(keys) if _is_decisive(lower) else ())


def _releases(token: str) -> list[str]:
    """Return terms for the chains of digits in `token` that no mark of a pre-release follows: 2.0.0, not 2.0.0-rc1."""
    chains = (chain for chain in _DIGIT_CHAIN.finditer(token) if not _PRERELEASE.match(token, chain.end()))
    return [_RELEASE_MARK + _canonical(chain[0]) for chain in chains]


def _structured_words(line: str) -> Iterator[str]:
    end = 0
    for match in _STRUCTURE.finditer(line):
        if match.start() >= end:
            start = line.rfind(" ", end, match.start()) + 1 or end
            end = line.find(" ", match.end())
            end = len(line) if end < 0 else end
            yield line[start:end]


def _has_structure(token: str) -> bool:
    """Return whether `token` is more than words: a long number, digits beside something else, `_`, a capital inside."""
    if token.isdecimal():
        return len(token) > 3
    return _STRUCTURE.search(token) is not None


def _is_decisive(token: str) -> bool:
    if token.isdecimal():
        return len(token) > 4 or (len(token) == 4 and not "1500" <= token <= "2100")  # not a year
    digits = sum(map(str.isdecimal, token))
    return digits > (1 if token.isalnum() else 0) and not _ORDINAL.fullmatch(token)  # A-7 decides; WW1, CO2, 3D do not


def _canonical(token: str) -> str:
    """Return the runs of letters and of digits in `token`, with a mark between two runs of digits."""
    runs = _RUN.findall(token)
    if len(runs) > 2 and runs[0] == "v":  # v1.2.3 is 1.2.3
        del runs[0]
    whole = ""
    for run in runs:
        whole += _DIGIT_MARK + run if whole[-1:].isdecimal() and run.isdecimal() else run
    return whole


# Scripts

_UNSPACED = re.compile(
    "(?P<paired>[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+)"  # kana, Han
    "|(?P<tripled>[\u0e00-\u0eff\u0f40-\u0fbc\u1000-\u109f\u1780-\u17dd\u1950-\u19df\u1a20-\u1aad\ua9e0-\ua9fe\uaa60-\uaadf]+)"
)  # the second: Thai, Lao, Tibetan, Burmese, Khmer, Tai
_HANGUL = re.compile("[\uac00-\ud7a3]+")
_ARABIC = re.compile("[\u0621-\u064a]{3,}")
_ARABIC_PREFIX = re.compile("(?:وال|بال|كال|فال|ال|لل|و)(?=.{3})")
_ARABIC_SUFFIX = re.compile("(?<=.{3})(?:ها|ان|ات|ون|ين|يه|ه|ي)$")
_HEBREW = re.compile("[\u05d0-\u05ea]{4,}")
_HEBREW_PREFIX = re.compile("(?:[ושכ]?[הבלמכש]|ו)(?=.{3})")
_GERMANIC = frozenset("der die das und ist nicht ein eine den dem mit von auf het een van og och att det".split())
_COMPOUND = re.compile(r"[^\W\d_]{10,}")
_PICTURE = re.compile("[\u2600-\u27bf\U0001f000-\U0001faff]")
_PICTURE_MARK = "\ue001"  # begins the term of an emoji, which no tokenizer takes for a word


_WORD = re.compile(  # `\w` lacks the marks of vowels
    "[\\w\u0700-\u0963\u0966-\u109f\u1700-\u1cff\u2cef-\u2cf1\u2d7f\u302a-\u302f\ua66f-\ua6f1\ua800-\uabff\U00010000-\U000dffff]+"
)


def _n_grams(run: re.Match[str]) -> list[str]:
    """Return what is indexed of a run of characters without spaces; its last n-grams are shorter."""
    text, n = run[0], 2 if run["paired"] else 3
    return [text[i : i + n] for i in range(len(text))]


def _asked_n_grams(run: re.Match[str]) -> list[str]:
    text, n = run[0], 2 if run["paired"] else 3
    return [text[i : i + n] for i in range(len(text) - n + 1)] or [f"{text}*"]


def _syllable_pairs(folded: str) -> list[str]:
    return [word[i : i + 2] for word in _HANGUL.findall(folded) for i in range(len(word) - 1)]


def _stems(folded: str) -> list[str]:
    """Return the Arabic and Hebrew words of `folded` without what is written onto them; at least three letters remain."""
    stems = [_ARABIC_SUFFIX.sub("", _ARABIC_PREFIX.sub("", word, count=1)) for word in _ARABIC.findall(folded)]
    return [*stems, *(_HEBREW_PREFIX.sub("", word, count=1) for word in _HEBREW.findall(folded))]


def _compound_parts(folded: str) -> list[str]:
    """Return beginnings and ends of the long words of a text in a language that writes compounds as one word."""
    if _GERMANIC.isdisjoint(folded.split()):
        return []
    words = dict.fromkeys(_COMPOUND.findall(folded))
    return [part for word in words for i in range(5, len(word) - 4) for part in (word[:i], word[-i:])]


def _pictures(folded: str) -> list[str]:
    return [f"{_PICTURE_MARK}{ord(picture):x}" for picture in _PICTURE.findall(folded)]


# What is indexed, and what is asked for


def indexed_columns(title: str, heading: str, body: str) -> tuple[str, ...]:
    """Return the text to index in each of `COLUMNS`."""
    columns = (_index_name(title), _index_name(heading), _index_text(body))
    return (*(words for words, _ in columns), " ".join(term for _, extra in columns for term in extra))


def _index_text(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the words of a text, normalised, and its extra terms."""
    line = " ".join(_unify(text).split())
    extra = [form for found in _find_identifiers(line) for form in (found.whole, *found.parts)]
    folded = _fold(line)
    extra += [*_written_dates(folded), *_spaced_numbers(folded), *_options(folded), *_compound_parts(folded)]
    if not folded.isascii():
        extra += [*_syllable_pairs(folded), *_stems(folded), *_pictures(folded)]
        folded = " ".join(_WORD.findall(_UNSPACED.sub(lambda run: f" {' '.join(_n_grams(run))} ", folded)))
    return folded, tuple(extra)


_index_name = functools.lru_cache(maxsize=256)(_index_text)  # all chunks of a document have its title


@dataclass(frozen=True, slots=True)
class Query:
    """A question as full-text search understands it.

    Attributes:
        terms: What to look for, each once; a term that ends in `*` stands for all that begin so.
        identifiers: For each identifier of the question that decides which chunk answers it: its forms, best first. A form is an
            extra term, or a word and a number, which stand side by side in the text.
    """

    terms: tuple[str, ...]
    identifiers: tuple[tuple[str, ...], ...]


def quote_term(term: str) -> str:
    """Return a term as an expression of FTS5."""
    return f'"{term[:-1]}" *' if term.endswith("*") else f'"{term}"'


@functools.lru_cache(maxsize=32)  # one search parses its question several times
def parse_query(question: str) -> Query:
    """Return the terms of a question. English function words are among them only if it has no other words.

    Example:
        >>> parse_query("What does ERR_4021 mean?").terms
        ('err', '4021', 'mean', 'err4021')
    """
    line = " ".join(_unify(question).split())
    folded = _fold(line)
    words = [word for token in _WORD.findall(_UNSPACED.sub(" ", folded)) for word in token.split("_")]
    found = list(_find_identifiers(line))
    extra = [form for identifier in found for form in (identifier.whole, *identifier.parts)]
    dates = _written_dates(folded)
    numbers = _spaced_numbers(folded)
    options = _options(folded)
    extra += [*dates, *numbers, *options]
    extra += [f"{word}*" for word in words if len(word) == 1 and _HANGUL.match(word)]
    extra += [*_syllable_pairs(folded), *_stems(folded), *_pictures(folded)]
    extra += [term for run in _UNSPACED.finditer(folded) for term in _asked_n_grams(run)]
    content = [word for word in words if word not in _STOP_WORDS]
    terms = _distinct([*content, *extra]) or _distinct(words)
    # of numbers that are whole below
    groups = {group for number in _SPACED.findall(folded) for group in number.split()}
    keys = [identifier.keys for identifier in found if identifier.keys and identifier.whole not in groups]
    keys += [(form,) for form in (*dates, *numbers, *options) if form]
    keys += [(" ".join(_WORD.findall(path[0])),) for path in _SECTION.finditer(folded)]
    keys += [(f"{named['name']} {named['number']}",) for named in _NAMED_NUMBER.finditer(folded)]
    return Query(terms, _distinct(keys)[:_MAX_IDENTIFIERS])


def _distinct(values: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
