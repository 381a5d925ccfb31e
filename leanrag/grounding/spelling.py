"""One spelling for all texts: signs, contractions, and phrases that say the same in several words."""

from __future__ import annotations

import functools
import re
import unicodedata

from leanrag.grounding.lexicon import CONTRACTIONS
from leanrag.grounding.measures import BOUND_SIGNS, BOUNDS, MULTIPLIERS, NUMBER_WORDS

__all__ = ["normalise"]

_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\u0640\u064b-\u0652]")
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ`´′", "'") | dict.fromkeys("‐‑‒–—―", "-") | {"−": "-"})
_SUPERSCRIPT = re.compile(r"(?<=[\d)])[⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_FROM_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_GROUP_SPACE = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_GROUPS = re.compile(r"(?<![\w.,:/+'-])(?<!\d )[1-9]\d{0,2}(?: \d{3})+(?![\w:/-]| \d|\.\d+\.)")
_GROUP_HINT = re.compile(r"\d \d\d\d")
_FRACTIONS = {"½": ".5", "¼": ".25", "¾": ".75", "⅓": ".333333", "⅔": ".666667", "⅛": ".125"}
_FRACTION = re.compile(rf"(?:(\d+)\s?)?([{''.join(_FRACTIONS)}])")
_BROKEN_WORD = re.compile(r"(?<=[^\W\d_])([-\u2010])[ \t]*\r?\n[ \t]*(?=([^\W\d_]))")
_BROKEN_PATH = re.compile(r"(?<=[\w-]/)[ \t]*\r?\n[ \t]*(?=\w)")
_LINE_BREAK = re.compile(r"(?<=\w)[ \t]*\r?\n[ \t]*")
_HYPHENATED = frozenset("self well half ex high low all non semi co multi cross long short much so".split())
_LONGEST_WORD = 40
_LAST_WORD = re.compile(r"[^\W\d_]+\Z")
_DASH = re.compile(r"\s[–—]\s|(?<=[^\W\d])—(?=[^\W\d])")
_CONTRACTIONS = [(re.compile(pattern, re.IGNORECASE), replacement) for pattern, replacement in CONTRACTIONS]
_NUMBER_WORD = "|".join([*NUMBER_WORDS, *MULTIPLIERS, "one", "half"])
_BEFORE_NUMBER = rf"(?=\s+(?:about |a |ein |une? )?(?:[$€£¥]\s?)?(?:[-+]?\d|(?:{_NUMBER_WORD})\b))"


def _bound_pattern(phrases: str) -> re.Pattern[str]:
    alternatives = "|".join(line.strip() for line in phrases.strip().splitlines())
    return re.compile(rf"\b(?:{alternatives})\b".replace("NUMBER", _BEFORE_NUMBER), re.IGNORECASE)


_BOUNDS = [(_bound_pattern(phrases), word) for word, phrases in BOUNDS.items()]
_BOUND_HINT = re.compile(
    r"least|less|than|fewer|minim|maxim|below|above|over|under|not exceed|exceed|excess|soon|up to|most|höchst|bis zu|mindest"
    r"|wenig|als|über|unter|plus|mens|moins|menos|máxim|mínim|sumo|más|sobre|bajo|almeno|meno|massim|più|pelo|mais|minst"
    r"|minder|hoogst|meer|мене|боле|or (?:more|old|high|lat|great|young|low|earl|small)|mehr|ält"
)
"""Parts of words, in lower case, of which each phrase of a bound holds one."""

_PHRASES = [
    (hint, re.compile(pattern, re.IGNORECASE), replacement)
    for hints, pattern, replacement in (
        ("not only", r"\bnot only\b", ""),
        ("not until", r"\bnot until\b", "from"),
        ("unless", r"(?<=[\w)]) unless\b", ", if not"),
        ("unless", r"\bunless\b", "if not"),
        ("no doubt", r"\bno doubt\b", ""),
        (" that", r"\b(?:false|untrue|wrong|incorrect|not true|not the case) that\b", "myth that"),
        (", da", r"\b(?:falsch|unwahr|nicht wahr), (?:dass|daß)\b", "mythos dass"),
        ("faux q|pas vrai q|falso q", r"\b(?:faux|pas vrai|falso) qu?e?\b", "mito que"),
        (" que", r"\bn[e'] ?([\w' ]{1,30}?) que\b", r"\1 only"),
        ("plus ", r"\bplus (?=de \d)", "plus "),
        ("ne ", r"\bne ([\w]+ )plus\b", r"\1 jamais"),
        ("percent|prozentp", r"\bpercentage points?\b|\bpercent points?\b|\bprozentpunkte?n?\b", "points_percent"),
        ("per", r"\bper ?cent\b", "percent"),
        ("celsius", r"\bdegrees? celsius\b|\bgrad celsius\b|\bdegrés celsius\b", "°C"),
        ("fahrenheit", r"\bdegrees? fahrenheit\b", "°F"),
        ("per hour|stundenk", r"\bkilomet(?:er|re)s? per hour\b|\bstundenkilometer\b", "km/h"),
        ("miles per", r"\bmiles per hour\b", "mph"),
        ("square", r"\bsquare met(?:er|re)s?\b", "m2"),
        ("cubic", r"\bcubic met(?:er|re)s?\b", "m3"),
        ("square", r"\bsquare kilomet(?:er|re)s?\b", "km2"),
        ("minus|negative", r"\b(?:minus|negative) (?=\d)", "-"),
        ("below zero", r"(?<=\d) below zero\b", " _below_zero"),
        ("over", rf"\b(?:took|takes?) over\b(?!{_BEFORE_NUMBER})", "acquired"),
        ("sign", r"\bsign(s|ed|ing)? off on\b|\bsign(s|ed|ing)? off\b", "sign"),
        ("turn|switch|power", r"\b(turn|switch|power)(s|ed|es|ing)?((?: \w+){0,3}?) on\b", r"\3 enable"),
        ("turn|switch|power", r"\b(turn|switch|power)(s|ed|es|ing)?((?: \w+){0,3}?) off\b", r"\3 disable"),
        ("half a|halbe|demi-", r"\bhalf an? |\b(?:ein(?:en|e)? )?halbe[rsn]? |\bune? demi-", "0.5 "),
        ("and a half", r"(?<=\d) and a half\b", ".5"),
        ("non-|un-|nicht-", r"\b(non|un|nicht)-(?=[^\W\d_]{4})", r"\1"),
        ("apart from|other than", r"\bapart from\b|\bother than\b", "except"),
        ("exception of", r"\bwith the exception of\b", "except"),
        ("ausnahme", r"\bmit ausnahme (?:von|der|des)\b", "außer"),
        ("exception de", r"\bà l exception d[eu]\b|\bà l'exception d[eu]\b", "sauf"),
        ("excepción de", r"\bcon excepción de\b", "excepto"),
        (" but ", r"\b((?:all|every|any) \w+) but (?!not\b)", r"\1 except "),
        ("at first", r"\bat first\b", "originally"),
        ("up of", r"\bis (?:made|composed) up of\b", "contains"),
    )
    for hint in hints.split("|")
]
"""What a phrase always holds in lower case, the phrase, and what stands for it."""


@functools.lru_cache(maxsize=8192)
def normalise(text: str) -> str:
    """Return `text` in one spelling: NFKC, plain signs, nothing invisible, contractions written out, broken words joined."""
    if "\n" in text:
        text = _LINE_BREAK.sub(" ", _BROKEN_PATH.sub("", _BROKEN_WORD.sub(_joint, text)))
    if not text.isascii():
        text = _GROUP_SPACE.sub("'", _INVISIBLE.sub("", text))
        text = _FRACTION.sub(lambda found: (found[1] or "0") + _FRACTIONS[found[2]], text)
        text = _SUPERSCRIPT.sub(lambda found: "^" + found[0].translate(_FROM_SUPERSCRIPT), text)
        text = _DASH.sub(" ; ", unicodedata.normalize("NFKC", text)).translate(_APOSTROPHES)
    text = text.replace("`", "'")
    if _GROUP_HINT.search(text):
        text = _GROUPS.sub(lambda found: found[0].replace(" ", "'"), text)
    lowered = text.lower()
    if "'" in text or "cannot" in lowered:
        for pattern, replacement in _CONTRACTIONS:
            text = pattern.sub(replacement, text)
        lowered = text.lower()
    for hint, pattern, replacement in _PHRASES:
        if hint in lowered:
            text = pattern.sub(replacement, text)
    for sign, word in BOUND_SIGNS.items():
        text = text.replace(sign, f" {word} ")
    if _BOUND_HINT.search(lowered):
        for pattern, word in _BOUNDS:
            text = pattern.sub(f" {word} ", text)
    return text


def _joint(found: re.Match[str]) -> str:
    """Return what stands between the two parts of a word that a line break divides: a hyphen only if it belongs to the word."""
    before = _LAST_WORD.search(found.string, max(0, found.start() - _LONGEST_WORD), found.start())
    keeps = not found[2].islower() or (before is not None and before[0].casefold() in _HYPHENATED)
    return "-" if keeps else ""
