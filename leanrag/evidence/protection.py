"""Spans that no compressor may cut or thin.

Recognising them takes time linear in the text, whatever the text: a match is either certain after its first characters or looks at
a bounded stretch. In the patterns a "letter" is a Latin, Greek or Cyrillic one; scripts written without spaces would
otherwise make one word of a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from leanrag.errors import ConfigurationError
from leanrag.spans import Span, merge_spans
from leanrag.text import code_spans

__all__ = ["PROTECTED_KINDS", "ProtectedKind", "Protection"]

ProtectedKind: TypeAlias = Literal[
    "code", "url", "path", "email", "quantity", "date", "identifier", "quotation", "negation", "heading"
]

PROTECTED_KINDS: tuple[ProtectedKind, ...] = get_args(ProtectedKind)
"""Everything that is protected by default."""

_LETTER = "A-Za-zªµºÀ-ÖØ-öø-ɏͰ-ϿЀ-ӿ"
_WORD = rf"{_LETTER}0-9_"
_GAP = " \\u00a0\\u2009\\u202f\\u3000"  # between a number and its unit, and between groups of three digits


@dataclass(frozen=True, slots=True)
class Protection:
    """What may never be cut.

    What a compressor leaves of a sentence, row or block keeps its protected spans whole. It may leave out a whole one that holds
    some, unless the span was asked for by `patterns` or `keep=`, or `everywhere` is set: those are always in the result, and if
    they alone do not fit, that is a `BudgetError`.

    Args:
        kinds: Kinds of spans that are recognised; none for no protection but `patterns` and `keep=`.
        patterns: Regular expressions whose matches are always kept. They run unchanged: a slow pattern is slow here too.
        everywhere: Keep every span of `kinds`, wherever it stands.

    Raises:
        ConfigurationError: A kind is unknown, or a pattern is no regular expression for text.
    """

    kinds: Sequence[ProtectedKind] = PROTECTED_KINDS
    patterns: Sequence[str | re.Pattern[str]] = ()
    everywhere: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.kinds, str) or (unknown := [kind for kind in self.kinds if kind not in PROTECTED_KINDS]):
            wrong = repr(self.kinds) if isinstance(self.kinds, str) else ", ".join(map(repr, unknown))
            raise ConfigurationError(f"`kinds` must be a sequence of {', '.join(PROTECTED_KINDS)}, got {wrong}")
        if isinstance(self.patterns, (str, bytes, re.Pattern)):
            raise ConfigurationError(
                f"`patterns` must be a sequence of regular expressions, got {self.patterns!r}. Write [{self.patterns!r}]"
            )
        object.__setattr__(self, "kinds", tuple(self.kinds))
        object.__setattr__(self, "patterns", tuple(map(_compile, self.patterns)))

    def spans(self, text: str, keep: Iterable[Span] = ()) -> list[Span]:
        """Return the spans of `text` that must stay whole, disjoint and in order; the spans of `required` are among them.

        Raises:
            ConfigurationError: A span of `keep` lies outside the text.
        """
        return merge_spans([*self._asked(text, keep), *self._recognised(text)])

    def required(self, text: str, keep: Iterable[Span] = ()) -> list[Span]:
        """Return the spans of `text` that must be in the result, disjoint and in order.

        Raises:
            ConfigurationError: A span of `keep` lies outside the text.
        """
        asked = self._asked(text, keep)
        return merge_spans([*asked, *self._recognised(text)] if self.everywhere else asked)

    def _recognised(self, text: str) -> Iterator[Span]:
        for kind in self.kinds:
            yield from _FINDERS[kind](text)

    def _asked(self, text: str, keep: Iterable[Span]) -> list[Span]:
        spans = list(keep)
        for start, end in spans:
            if not 0 <= start < end <= len(text):
                raise ConfigurationError(
                    f"`keep` spans must lie in the text of {len(text):,} characters, got ({start}, {end})"
                )
        return spans + [match.span() for pattern in self.patterns for match in re.finditer(pattern, text)]


def _compile(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigurationError(f"{pattern!r} is not a regular expression: {error}") from error
    if not isinstance(compiled.pattern, str):
        raise ConfigurationError(f"{pattern!r} matches bytes; `patterns` are for text")
    return compiled


def _matches(pattern: str, flags: int = 0) -> Callable[[str], Iterator[Span]]:
    compiled = re.compile(pattern, flags)
    return lambda text: (match.span() for match in compiled.finditer(text))


# ------------------------------------------------------------------------------------------------ code and addresses

_AFTER_SCHEME = re.compile(r"://[^\s<>\"“”«»`。、，；！？）」』】》]+")
_BARE_ADDRESS = re.compile(
    rf"(?<![{_WORD}])(?:www\.|(?:mailto|doi|urn|tel|data|magnet|arxiv):(?=\w))[^\s<>\"“”«»`。、，；！？）」』】》]+",
    re.IGNORECASE,
)
_SCHEME_BACKWARDS = re.compile(r"[A-Za-z0-9+.-]*[A-Za-z]")
_CLOSERS = {")": "(", "]": "[", "}": "{"}


def _urls(text: str) -> Iterator[Span]:
    for match in _AFTER_SCHEME.finditer(text):
        scheme = _SCHEME_BACKWARDS.match(text[max(0, match.start() - 20) : match.start()][::-1])
        if scheme and match.end() > match.start() + 3:
            yield match.start() - scheme.end(), _end_of_url(text, match.start() + 3, match.end())
    for match in _BARE_ADDRESS.finditer(text):
        yield match.start(), _end_of_url(text, match.start(), match.end())


def _end_of_url(text: str, start: int, end: int) -> int:
    """Leave out the punctuation that follows an address in prose; brackets belong to it if they open in it."""
    surplus = {
        closer: text.count(closer, start, end) - text.count(opener, start, end) for closer, opener in _CLOSERS.items()
    }
    while end > start:
        last = text[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in ".,;:!?'’*_…|\\":
            break
        end -= 1
    return end


_AT_HOST = re.compile(r"@[\w-]+(?:\.[\w-]+){1,8}")
_MAILBOX_BACKWARDS = re.compile(r"[\w.+%'-]*[\w+%]")


def _emails(text: str) -> Iterator[Span]:
    for match in _AT_HOST.finditer(text):
        mailbox = _MAILBOX_BACKWARDS.match(text[max(0, match.start() - 64) : match.start()][::-1])
        if mailbox:
            yield match.start() - mailbox.end(), match.end()


_PATH = re.compile(
    # C:\Program Files\x.txt: only what ends in a backslash may hold spaces; \\server\share; ..\x; a\b.txt
    rf"(?<![{_WORD}])[A-Za-z]:[\\/](?:[^\\/:*?\"<>|\s](?:[^\\/:*?\"<>|,;\r\n]{{0,60}})(?<!\s)[\\/]){{0,30}}[{_WORD}.+@%~$()-]*"
    rf"|(?<![\\{_WORD}.-])(?:\\\\|\.{{1,2}}\\)?[{_WORD}.-]+\\[{_WORD}.\\$-]+"
    # /usr/lib, ~/x, ./x
    rf"|(?<![{_WORD}/:.~<\\])(?:\.{{1,2}}|~[{_WORD}]{{0,32}})?/[{_WORD}.+@%=/~-]*[{_WORD}/]"
    # a/b.c
    rf"|(?<![{_WORD}./\\~:@+-])(?P<relative>[{_WORD}.@+-]+/[{_WORD}.@+/-]+)"
)
_FILE_NAME = re.compile(rf"[{_WORD}.@+-]*[{_WORD}]{{2}}\.[A-Za-z][A-Za-z0-9]{{0,7}}")


def _paths(text: str) -> Iterator[Span]:
    for match in _PATH.finditer(text):
        path = match[0].rstrip(".-")
        if match["relative"]:
            last = path[path.rstrip("/").rfind("/") + 1 :]
            if not (_FILE_NAME.fullmatch(last) or (path.count("/") > 2 and any(map(str.isalpha, path)))):
                continue
        elif len(path) < 2 or not path.strip("/\\."):
            continue
        yield match.start(), match.start() + len(path)


# ------------------------------------------------------------------------------------------------ numbers and dates

_UNIT_SYMBOLS = frozenset(
    """% ‰ ° °C °F °K ٪ ％ ′ ″ € $ £ ¥ ₹ ¢ ₽ ₩ ₺ zł kr Kč K V W A J N C F g m s h l L t T B b Ω µm µg µs μm μg μs nm mm cm dm km
    mg kg Mg ng ml mL cl dl ms ns ps min sec hr hrs yr yrs mi ft yd lb lbs oz pt qt gal psi bar mbar hPa kPa MPa GPa Pa Hz kHz MHz
    GHz THz mW kW MW GW TW Wh kWh MWh GWh TWh mV kV mA mAh Ah kJ MJ kN eV keV MeV GeV cal kcal dB lx lm mol mmol M mM rpm bps kbps
    Mbps Gbps bit kbit Mbit Gbit KB kB MB GB TB PB KiB MiB GiB TiB px dpi fps ppm ppb ha mph km² m² cm² mm² m³ cm³ km³ USD EUR GBP
    JPY CHF CNY RMB INR AUD CAD SEK NOK DKK PLN BRL AD BC BCE CE am pm AM PM UTC GMT x""".split()
)
_UNIT_WORDS = frozenset(
    """percent percentage cent cents per-cent hundred thousand million billion trillion hundreds thousands millions billions
    dozen dozens times fold year years month months week weeks day days hour hours minute minutes second seconds decade decades
    century centuries millisecond milliseconds mile miles foot feet inch inches yard yards kilometer kilometers kilometre kilometres
    meter meters metre metres centimeter centimeters centimetre centimetres millimeter millimeters millimetre millimetres acre acres
    hectare hectares pound pounds ounce ounces ton tons tonne tonnes gram grams kilogram kilograms liter liters litre litres gallon
    gallons degree degrees celsius fahrenheit kelvin watt watts kilowatt kilowatts megawatt megawatts volt volts ampere amperes
    joule joules byte bytes kilobyte kilobytes megabyte megabytes gigabyte gigabytes bits dollar dollars euro euros yen yuan
    rupees francs roubles rubles people persons inhabitants residents students votes seats points tokens characters pages volumes
    jahre jahren monate tage stunden minuten sekunden prozent millionen milliarden ans mois jours heures pour-cent años meses días
    horas minutos anni mesi giorni ore""".split()
)
_BEFORE_UNITS = frozenset("square cubic metric nautical light per us u.s american short long".split())
_UNIT = re.compile(
    rf"[{_GAP}-]?([ap]\.[{_GAP}]?m\.|(?:[{_LETTER}²³%‰٪％°′″€$£¥₹¢₽₩₺Ω]){{1,20}})(?:/[{_LETTER}]{{1,10}}[²³]?)?"
)
_CJK_DIGITS = "〇零一二三四五六七八九十百千万萬亿億兆两兩"
_CJK_UNIT = (
    "(?:世纪|世紀|公里|公斤|公尺|米|克|吨|噸|キロ|メートル|グラム|ドル|ユーロ|ポンド|パーセント|美元|欧元|人民币|小时|小時|時間|分钟|分鐘|"
    "年代|年|月|日|时|時|分|秒|円|元|圆|块|人|名|個|个|件|岁|歳|度|倍|回|次|台|本|冊|页|頁|章|条|%|％|명|원|년|월|일|개|시|분|초)"
)
_CJK_TAIL = re.compile(rf"[{_GAP}]?[十百千万萬亿億兆만억조]*{_CJK_UNIT}|[十百千万萬亿億兆만억조]+")
_NUMBER_WORDS = (
    "(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|"
    "(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|billion|trillion|dozen|half|twice|thrice|double|triple|"
    "one-(?:half|third|quarter|fourth|fifth|tenth)|thirds?|quarters?)"
)
_NUMBER = re.compile(
    rf"(?<![{_WORD}])(?:\d{{1,3}}(?:[{_GAP}]\d{{3}}){{1,9}}(?!\d)|\d+)(?:[-.,'’٫٬:/–—−×．，：]\d+){{0,30}}"
    rf"(?:[{_GAP}]?[×x·*][{_GAP}]?10(?=[\^⁰¹²³⁴-⁹⁻]))?(?:\^[-+−]?\d+|[eE][-+−]?\d+)?[{_WORD}⁰¹²³⁴-⁹⁻½⅓⅔¼¾⅛]*"
    r"|[½⅓⅔¼¾⅛⅜⅝⅞]"
    rf"|[{_CJK_DIGITS}]{{2,}}(?:(?:分之|[点點])[{_CJK_DIGITS}]+)?|[{_CJK_DIGITS}](?=分之|{_CJK_UNIT})(?:分之[{_CJK_DIGITS}]+)?"
    rf"|\b(?i:{_NUMBER_WORDS})(?:[ -](?i:and )?(?i:{_NUMBER_WORDS})){{0,8}}\b"
    r"|\b(?=[IVX]{2,6}\b)X{0,3}(?:IX|IV|V?I{0,3})(?<=[IVX])\b"  # Roman numerals that are not words
)
_BEFORE_NUMBER = re.compile(
    rf"(?:(?<![{_WORD})\]])(?:[±~≈<>≤≥]{{1,2}}[{_GAP}]?)?[-−+]?)?"
    rf"(?:(?<![{_WORD}])[A-Z]{{0,3}}[$€£¥₹¢₽₩₺₫₴₦￥][{_GAP}]?[-−]?"
    rf"|(?<![{_WORD}])(?:USD|EUR|GBP|JPY|CHF|CNY|RMB|INR|AUD|CAD|Rs\.?|[Nn]o\.|[Nn]r\.|[#№§])[{_GAP}]?|第|(?<![{_WORD}.])\.)?\Z"
)
_MAX_BEFORE_NUMBER = 9  # characters


def _quantities(text: str) -> Iterator[Span]:
    """Numbers, with the sign and currency before them and the units after them."""
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        if match[0][0].isdigit() and (before := _BEFORE_NUMBER.search(text, max(0, start - _MAX_BEFORE_NUMBER), start)):
            start = before.start()
        tail = _CJK_TAIL.match(text, end)
        yield start, _end_of_units(text, tail.end() if tail else end)


def _end_of_units(text: str, end: int) -> int:
    at = end
    for _ in range(4):  # "3 million US dollars"
        word = _UNIT.match(text, at)
        if word is None:
            break
        at = word.end()
        if word[1] in _UNIT_SYMBOLS or word[1].lower() in _UNIT_WORDS or "." in word[1]:
            end = at
        elif word[1].lower() not in _BEFORE_UNITS:
            break
    return end


_MONTHS = (
    "january february march april may june july august september october november december jan feb mar apr jun jul aug sep sept "
    "oct nov dec"
).split()
_OTHER_MONTHS = (
    "januar jänner februar märz mai juni juli oktober dezember janvier février mars avril juin juillet août septembre octobre "
    "novembre décembre enero febrero marzo abril mayo junio julio agosto setiembre septiembre octubre noviembre diciembre gennaio "
    "febbraio aprile maggio giugno luglio settembre ottobre dicembre janeiro fevereiro março maio junho julho setembro outubro "
    "novembro dezembro januari februari maart mei augustus stycznia lutego marca kwietnia maja czerwca lipca sierpnia września "
    "października listopada grudnia января февраля марта апреля мая июня июля августа сентября октября ноября декабря"
).split()
_WEEKDAYS = [f"{day}day" for day in ("Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun")]
_DATE_NAMES = frozenset(
    map(str.lower, [*_MONTHS, *_OTHER_MONTHS, *_WEEKDAYS, "Q1", "Q2", "Q3", "Q4", "H1", "H2", "FY"])
)
_MONTH = rf"(?:(?:{'|'.join(map(str.capitalize, _MONTHS))})\b\.?|(?i:{'|'.join(_OTHER_MONTHS)})(?![{_WORD}]))"
_DAY = r"\d{1,2}(?:st|nd|rd|th|er|º|\.)?"
_CLOCK = rf"\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:[.,]\d{{1,9}})?)?(?:[{_GAP}]?[ap]\.?m\b\.?|Z\b|[+-]\d{{2}}:?\d{{2}})?"
_find_numeric_date = re.compile(
    rf"\d{{4}}([-/.])\d{{1,2}}\1\d{{1,2}}(?!\d)(?:(?:T|[{_GAP}]){_CLOCK})?"
    r"|\d{1,2}([-/.])\d{1,2}\2\d{2,4}(?!\d)"
    rf"|{_CLOCK}(?:[{_GAP}](?:UTC|GMT|CES?T|E[SD]T|P[SD]T|C[SD]T)\b)?"
    rf"|\d{{1,2}}[{_GAP}]?[ap]\.?m\b\.?"
    rf"|(?:{_DAY}[{_GAP}]?[-–—][{_GAP}]?)?{_DAY}[{_GAP}-]?(?:of |de )?{_MONTH}(?:,?[{_GAP}-](?:del? )?\d{{4}}\b)?"
    r"|\d{1,2}(?:st|nd|rd|th)[ -]century\b|\d{2,4}s\b"
    rf"|\d{{4}}[{_GAP}]?年(?:[{_GAP}]?\d{{1,2}}[{_GAP}]?月(?:[{_GAP}]?\d{{1,2}}[{_GAP}]?日)?)?|\d{{1,2}}月\d{{1,2}}日"
).match
_find_named_date = re.compile(
    rf"{_MONTH}[{_GAP}]{_DAY}(?:[-–—]{_DAY})?(?![\d:])(?:,?[{_GAP}]\d{{4}}\b)?"
    rf"|{_MONTH}(?:,|[{_GAP}]of|[{_GAP}]de)?[{_GAP}]\d{{4}}\b"
    rf"|(?:Q[1-4]|H[12]|FY)[{_GAP}/]?\d{{4}}\b"
    rf"|(?:{'|'.join(_WEEKDAYS)})\b"
).match
_DATE_START = re.compile(rf"(?<![{_WORD}.])[{_WORD}]+")


def _dates(text: str) -> Iterator[Span]:
    end = 0
    for word in _DATE_START.finditer(text):
        is_numeric = word[0][0].isdigit()
        if word.start() < end or not (is_numeric or word[0].lower() in _DATE_NAMES):
            continue
        if date := (_find_numeric_date if is_numeric else _find_named_date)(text, word.start()):
            end = date.end()
            yield date.span()


# ------------------------------------------------------------------------------------------------ names of things

_TOKEN = re.compile(rf"[{_WORD}]+(?:(?:[-.:]|::)[{_WORD}]+){{0,30}}(?:\(\)|[+#]{{1,2}}(?![{_WORD}]))?")
_PLAIN = re.compile("[A-Z]?[a-z]*")
_find_marked = _matches(
    rf"(?<![{_WORD}-])--[A-Za-z][{_WORD}-]*"  # options of commands
    rf"|(?<![{_WORD}])[@#][A-Za-z][{_WORD}]*"
    rf"|(?<![{_WORD}])\+\d{{1,3}}[ .-]?(?:\(\d{{1,4}}\)[ .-]?)?\d{{1,4}}(?:[ .-]\d{{2,4}}){{1,5}}(?!\d)"  # telephone numbers
    r"|\(\d{3}\)[ .-]?\d{3}[ .-]\d{4}(?!\d)"
    rf"|(?<![{_WORD}:])[0-9A-Fa-f]{{1,4}}(?::[0-9A-Fa-f]{{1,4}}){{0,6}}::(?:[0-9A-Fa-f]{{1,4}}(?::[0-9A-Fa-f]{{1,4}}){{0,6}})?"
)
_HUMP = re.compile("[a-zß-öø-ÿ][A-ZÀ-ÖØ-Þ]")
_MAC = re.compile("[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\\1[0-9A-Fa-f]{2}){4}")


def _identifiers(text: str) -> Iterator[Span]:
    for match in _TOKEN.finditer(text):
        if not _PLAIN.fullmatch(match[0]) and _is_identifier(match[0]):
            yield match.span()
    yield from _find_marked(text)


def _is_identifier(token: str) -> bool:
    if any(map(str.isdigit, token)):
        # With letters, or in several parts: A4, covid-19, 1.2.3, 978-3-16-148410-0, 192.168.0.1.
        return any(map(str.isalpha, token)) or token.count(".") > 1 or "-" in token
    if "_" in token.strip("_") or token.startswith("__") or token[-1] in "()+#" or "::" in token:
        return True
    return _HUMP.search(token) is not None or _is_dotted_name(token) or _MAC.fullmatch(token) is not None


def _is_dotted_name(token: str) -> bool:
    """`os.path` and `example.org`, not "e.g" and "U.S"."""
    parts = token.split(".")
    return len(parts) > 1 and sum(len(part) > 1 for part in parts) > 1 and parts[-1][0].islower()


# ------------------------------------------------------------------------------------------------ what others said

_INSIDE = r"|\n(?!\s)){1,300}"  # lines wrapped by hand, no more than a paragraph
_find_quotations = _matches(
    rf"(?<![{_WORD}])\"(?!\s)(?:[^\"\n]{_INSIDE}(?<!\s)\"(?![{_WORD}])"
    rf"|“(?:[^“”„\n]{_INSIDE}”|„(?:[^„“”\n]{_INSIDE}[“”]|‟(?:[^‟”\n]{_INSIDE}”|＂(?:[^＂\n]{_INSIDE}＂"
    rf"|«(?:[^«»\n]{_INSIDE}»|»(?!\s)(?:[^«»\n]{_INSIDE}(?<!\s)«|‹(?:[^‹›\n]{_INSIDE}›|›(?!\s)(?:[^‹›\n]{_INSIDE}(?<!\s)‹"
    rf"|「(?:[^「」\n]{_INSIDE}」|『(?:[^『』\n]{_INSIDE}』|《(?:[^《》\n]{_INSIDE}》|〈(?:[^〈〉\n]{_INSIDE}〉|｢(?:[^｢｣\n]{_INSIDE}｣"
    # The closing mark is also the apostrophe: inside a word it closes nothing.
    rf"|(?<![{_WORD}])‘(?!\s)(?:[^‘’\n]|’(?=[{_LETTER}]){_INSIDE}(?<!\s)’(?![{_WORD}])|‚(?:[^‚‘’\n]{_INSIDE}[‘’](?![{_WORD}])"
    rf"|(?<![{_WORD}'])'[^\s']{{1,60}}'(?![{_WORD}'])"
)

# ------------------------------------------------------------------------------------------------ words that turn a sentence

_NEGATIONS = frozenset(
    """not no never none nor neither without cannot unless except excluding only must nobody nothing nowhere hardly barely scarcely
    rarely seldom lack lacks all every any each both few always exactly almost nearly dont cant wont doesnt didnt isnt
    nicht nichts kein keine keinem keinen keiner keines niemals ohne nur jamais aucun aucune sans seulement nunca jamás ninguno
    ninguna ningún tampoco não nessun nessuno nessuna senza nooit geen niet nie bez не нет без никогда только
    لا ولا لم ولم لن ولن ليس ليست غير بدون नहीं मत""".split()
)
_WORD_WITH_NOT = re.compile(r"\w+(?:['’][tT]\b)?")
_COMPARISON = re.compile(r"(?:at (?:least|most)|(?:more|less|fewer|rather) than|up to)\b", re.IGNORECASE)
_COMPARING = frozenset("at more less fewer rather up".split())
_find_attached_negations = _matches("[不没沒無未勿莫]|ない|なかった|ません")


def _negations(text: str) -> Iterator[Span]:
    """Negations, and quantifiers that change what a sentence says of how many."""
    for match in _WORD_WITH_NOT.finditer(text):
        word = match[0].lower()
        if word in _NEGATIONS or word.endswith(("n't", "n’t")):
            yield match.span()
        elif word in _COMPARING and (comparison := _COMPARISON.match(text, match.start())):
            yield comparison.span()
    yield from _find_attached_negations(text)


_find_headings = _matches(
    r"^[ \t]{0,3}#{1,6}[ \t]+[^\s][^\r\n]*|^[ \t]{0,3}[^\s][^\r\n]{0,99}\r?\n[ \t]{0,3}(?:={3,}|-{3,})(?=[ \t]*\r?$)",
    re.MULTILINE,
)

_FINDERS: dict[ProtectedKind, Callable[[str], Iterator[Span]]] = {
    "code": code_spans,
    "url": _urls,
    "path": _paths,
    "email": _emails,
    "quantity": _quantities,
    "date": _dates,
    "identifier": _identifiers,
    "quotation": _find_quotations,
    "negation": _negations,
    "heading": _find_headings,
}
