"""Words, sentences, marks, code and thoughts of a text: the functions that several stages share."""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

from leanrag.lines import LineRules
from leanrag.spans import trim_span

__all__ = [
    "STOP_WORDS",
    "ANSWER_TAGS",
    "PROMPT_THOUGHT_TAGS",
    "WRAPPING_TAGS",
    "THOUGHT_TAGS",
    "answer_kind",
    "code_spans",
    "content_words",
    "estimate_tokens",
    "fence_code",
    "fenced_blocks",
    "find_page_end",
    "is_unspaced",
    "shared_length",
    "split_sentences",
    "split_thoughts",
    "stem",
    "marked_numbers",
    "without_marks",
    "words",
]

_TOKEN = re.compile(r"[A-Za-z]{1,4}|[0-9]{1,3}|[^\sA-Za-z0-9]")
_MOST_CHARACTERS = 8  # of a token on a page: white space counts nothing
_WORD = re.compile(r"\w+(?:[.,'’]\w+)*")
_BRACKETS = re.compile(r"\[\d{1,2}(?:\s{0,3},\s{0,3}\d{1,2}){0,40}\]")
_AFTER_MARK = re.compile(r"\s*(?:[.!?,;:)。！？，、।؟\[]|\Z|[\r\n])|\s+\w")
_WORD_BEFORE_MARK = re.compile(r"[^\W\d_]+\Z")
_BEFORE_LIST = frozenset(
    """a all an and are array be by cell column contains elements equals for from gives has have holds in index indices into is
    item items like list lists of or output outputs print prints range result return returned returns row set shape to tuple
    use value values vector was were with yields ist sind von für est sont de es son""".split()
)
_SUFFIXES = ("ingly", "edly", "ings", "ing", "ies", "ied", "ed", "es", "ly", "s", "e")

STOP_WORDS = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but by can
    could did do does doing done down during each few for from further had has have having he her here hers him his how i if in
    into is it its itself just many me more most much my name no nor not of off on once one only or other our out over own same
    she should so some such than that the their them then there these they this those through to too under until up use used
    very was we were what when where which while who whom whose why will with would you your""".split()
)


def words(text: str) -> list[str]:
    """Return the words of `text` in order, case folded. "3,000" and "don't" are words."""
    return [word.casefold() for word in _WORD.findall(text)]


def estimate_tokens(text: str) -> int:
    """Return about the number of tokens of `text` for a model whose tokenizer is unknown; rather too many than too few."""
    return len(_TOKEN.findall(text))


def find_page_end(text: str, start: int, max_tokens: int) -> int:
    r"""Return where a page of about `max_tokens` tokens ends that begins at `start`: at the end of a paragraph, line or word.

    Pages follow each other without a gap, and each one has text: the end is above `start`, unless `start` is the end of the text.

    Example:
        >>> find_page_end("One two three.\nFour five.", 0, 5)
        15
    """
    end = min(len(text), start + _MOST_CHARACTERS * max_tokens)
    for i, token in enumerate(_TOKEN.finditer(text, start, end)):
        if i == max_tokens:
            end = token.start()
            break
    if end < len(text):
        earliest = end - (end - start) // 4
        for separator in ("\n\n", "\n", " "):
            if (found := text.rfind(separator, earliest, end)) >= 0:
                return found + len(separator)
    return end


def without_marks(text: str) -> str:
    """Return `text` without marks of sources, such as [1] and [2, 3], and the space before them.

    Numbers in brackets are a mark only after the words that they support. Subscripts (`items[0]`, `"abc"[1]`), lists of numbers
    ("is [1, 2]"), numbers above 99 ("RFC [2119]"), code between backticks, and Markdown links are kept.

    Example:
        >>> without_marks("Ada Park signs [1, 2]. Use items[0], or the list [1].")
        'Ada Park signs. Use items[0], or the list [1].'
    """
    if "[" not in text:
        return text
    pieces: list[str] = []
    start = 0
    for found in _find_marks(text):
        pieces.append(text[start : found.start()].rstrip())
        start = found.end()
    return "".join([*pieces, text[start:]])


def marked_numbers(text: str) -> frozenset[int]:
    """Return the numbers of the sources that the marks in `text` name; see `without_marks` for what is a mark.

    Example:
        >>> sorted(marked_numbers("Ada Park signs [1, 2]. Use items[0], or the list [1]."))
        [1, 2]
    """
    return frozenset(int(number) for found in _find_marks(text) for number in re.findall(r"\d+", found[0]))


def _find_marks(text: str) -> Iterator[re.Match[str]]:
    """Yield the marks of sources, in order."""
    code = deque(code_spans(text))
    end_of_last = 0
    for found in _BRACKETS.finditer(text):
        while code and code[0][1] <= found.start():
            code.popleft()
        if (code and code[0][0] < found.start()) or not _is_mark(text, end_of_last, found):
            continue
        yield found
        end_of_last = found.end()


def _is_mark(text: str, last_end: int, found: re.Match[str]) -> bool:
    """Return whether numbers in brackets cite sources. `last_end` is the end of the previous mark, or 0."""
    if re.search(r"[\[ ,]0\b", found[0]) or not _AFTER_MARK.match(text, found.end(), found.end() + 64):
        return False
    before = text[max(last_end, found.start() - 64) : found.start()]
    if not before.strip():
        return last_end > 0 or "," not in found[0]
    if not before[-1].isspace():
        last = before.rstrip('”’"')[-1:]  # of a quote, what it ends with
        return last in set(".!?,;。！？，、।؟」』") or is_unspaced(last)
    word = _WORD_BEFORE_MARK.search(before.rstrip())
    if word is None:
        return before.rstrip()[-1] not in "=([{<>+-*/%|&^~:"
    return word[0].casefold() not in _BEFORE_LIST


def is_unspaced(character: str) -> bool:
    """Return whether a character belongs to a script without spaces between words."""
    return "\u0e00" <= character <= "\u0eff" or "\u1000" <= character <= "\u109f" or "\u3040" <= character <= "\u9fff"


_OPEN_FENCE = re.compile(r"^[ \t]{0,3}(?:(`{3,})[^`\n]*$|(~{3,}))", re.MULTILINE)
_CLOSED_FENCE = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})[ \t]*\r?$", re.MULTILINE)
_BACKTICKS = re.compile(r"`+")
_MAX_INLINE_CODE_CHARS = 1000


def code_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of code in Markdown text, in order.

    These are fenced blocks and inline code (CommonMark 0.31, 6.1) between them.
    """
    last_end = 0
    for start, end in fenced_blocks(text):
        yield from _inline_code(text, last_end, start)
        yield start, end
        last_end = end
    yield from _inline_code(text, last_end, len(text))


def fenced_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of fenced code in Markdown text, in order (CommonMark 0.31, 4.5); an open block ends with the text."""
    end = 0
    while opening := _OPEN_FENCE.search(text, end):
        fence = opening[1] or opening[2]
        closings = _CLOSED_FENCE.finditer(text, opening.end())
        end = next((closing.end(1) for closing in closings if closing[1].startswith(fence)), len(text))
        yield opening.start(), end


def fence_code(code: str, language: str = "") -> str:
    """Return `code` as a fenced block of Markdown, whose fence is longer than the runs of backticks in the code."""
    fence = "`" * max([3, *(len(run) + 1 for run in _BACKTICKS.findall(code))])
    return f"{fence}{language}\n{code}\n{fence}"


def _inline_code(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the text between two runs of equally many backticks that are near each other, in the same paragraph."""
    runs = [match.span() for match in _BACKTICKS.finditer(text, start, end)]
    following: dict[int, int] = {}  # length of a run -> index of the next such run
    closing: list[int | None] = [None] * len(runs)
    for i in range(len(runs) - 1, -1, -1):
        length = runs[i][1] - runs[i][0]
        closing[i] = following.get(length)
        following[length] = i
    i = 0
    while i < len(runs):
        last = closing[i]
        i += 1
        if last is None:
            continue
        low, high = runs[i - 1][0], runs[last][1]
        if high - low <= _MAX_INLINE_CODE_CHARS and not re.search(r"\n[ \t\r]*\n", text[low:high]):
            yield low, high
            i = last + 1


THOUGHT_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<reason>", "</reason>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<think:opensource>", "</think:opensource>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|think|>", "<|end|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|channel|>commentary<|message|>", "<|end|>"),
)
"""Opening and closing tags of the thoughts of reasoning models, from their chat templates."""

PROMPT_THOUGHT_TAGS = (("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),)
"""More such tags, whose opening is a tag only at the end of a prompt."""

ANSWER_TAGS = (
    "<|start|>assistant",
    "<|begin|>assistant<|content|>",
    "<|open|>response<|sep|>",
    "<|close|>response<|sep|>",
    "[END FINAL RESPONSE]",
    "<|channel|>final<|message|>",
    "<|return|>",
    "<|end|>",
    "<|START_RESPONSE|>",
    "<|END_RESPONSE|>",
    "<|begin_of_solution|>",
    "<|end_of_solution|>",
)
"""Tags around the answer; they are not part of it."""

WRAPPING_TAGS = ("<response>", "</response>")
"""Tags around an answer that comes after thoughts, as Granite writes them. Elsewhere they are text."""

_CLOSING_TAG = {opening.casefold(): closing for opening, closing in THOUGHT_TAGS}
_ANSWER_TAG = re.compile("|".join(map(re.escape, ANSWER_TAGS)))
_OPENING = re.compile("|".join(map(re.escape, _CLOSING_TAG)), re.IGNORECASE)
_OPENING_FIRST = re.compile(rf"(?:\s|{_ANSWER_TAG.pattern})*({_OPENING.pattern})", re.IGNORECASE)
_CLOSING = re.compile("|".join({re.escape(end) for _, end in THOUGHT_TAGS if end not in ANSWER_TAGS}), re.IGNORECASE)
_WRAPPED = re.compile(r"\A\s*{}(.*?)(?:{}|\Z)".format(*map(re.escape, WRAPPING_TAGS)), re.DOTALL | re.IGNORECASE)
_CUT_TAG = re.compile(r"<\|?[a-z_|>]{0,40}\Z")


def split_thoughts(text: str) -> tuple[str, str]:
    r"""Return the thoughts of a reasoning model, and its answer without them and without their tags.

    Thoughts are between two tags of `THOUGHT_TAGS`, and come before the answer. A thought that is not closed ends with the text.
    If the text has only the closing tag, because the opening tag was in the prompt, all text before it is a thought. Tags in code
    and behind other words are text.

    Example:
        >>> split_thoughts("<think>Bo? No, Ada.</think>\n\nAda Park signs.")
        ('Bo? No, Ada.', 'Ada Park signs.')
        >>> split_thoughts("Bo? No, Ada.</think>Ada Park signs.")
        ('Bo? No, Ada.', 'Ada Park signs.')
        >>> split_thoughts("Use the <think> tag.")
        ('', 'Use the <think> tag.')
    """
    if not _OPENING.search(text) and not _CLOSING.search(text) and not _ANSWER_TAG.search(text):
        return "", text
    thoughts: list[str] = []
    while opening := _OPENING_FIRST.match(text):
        closing = re.compile(re.escape(_CLOSING_TAG[opening[1].casefold()]), re.IGNORECASE).search(text, opening.end())
        thoughts.append(text[opening.end() : closing.start() if closing else len(text)])
        text = text[closing.end() :] if closing else ""
    closing = _search_outside_code(_CLOSING, text)
    named = _search_outside_code(_OPENING, text)
    if closing and not (named and named.start() < closing.start()):
        thoughts.insert(0, text[: closing.start()])
        text = text[closing.end() :]
    text = _ANSWER_TAG.sub("", text)
    if thoughts:
        text = _WRAPPED.sub(r"\1", text)
        text = _CUT_TAG.sub("", text)
    return "\n".join(filter(None, map(str.strip, thoughts))), text.strip()


def _search_outside_code(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    code = list(code_spans(text)) if "`" in text else []
    matches = pattern.finditer(text)
    return next((found for found in matches if not any(low < found.start() < high for low, high in code)), None)


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Return `word` without a common English ending: rough, but the same for both sides of a comparison."""
    if word[-1:].isdigit():
        return word.replace(",", "")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def content_words(text: str) -> list[str]:
    """Return the stems of the words of `text` that are not stop words, in order."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


_ASKS_WHEN = re.compile(r"\b(?:when|(?:what|which) (?:year|date|day|month|decade|century))\b", re.IGNORECASE)
_ASKS_HOW_MANY = re.compile(
    r"\bhow (?:many|much|long|far|tall|high|large|big|fast|old|often)\b|\bwhat (?:percent\w*|number|population)\b",
    re.IGNORECASE,
)
_ASKS_WHO_OR_WHERE = re.compile(
    r"\b(?:who|whom|whose|where)\b|\b(?:what|which) (?:city|country|state|place|town|continent|river|person)\b",
    re.IGNORECASE,
)


def answer_kind(question: str) -> Literal["date", "number", "name"] | None:
    """Return the kind of answer that an English question asks for, by its question words; None if that is not clear.

    Example:
        >>> answer_kind("In what year did it fall?"), answer_kind("Who built it?"), answer_kind("What is it for?")
        ('date', 'name', None)
    """
    if _ASKS_WHEN.search(question):
        return "date"
    if _ASKS_HOW_MANY.search(question):
        return "number"
    return "name" if _ASKS_WHO_OR_WHERE.search(question) else None


# Never the end of a sentence: abbreviations of English, German, French, Spanish, Italian, Portuguese and Dutch.
_TITLES = frozenset(
    """adm approx brig capt cf col dept dr ed eds eq eqs esp fig figs fr gen gov hon lt maj messrs mme mr mrs ms mt no nos
    nr op p pp prof ref refs rep rev resp sec sen sgt sr st tab v viz vol vols vs e.g i.e cf. al
    abs abb bzgl bzw ca dipl-ing evtl frl geb gegr gem ggf hr hrn hrsg i.d.r inkl exkl insb kap mio mrd mwst o.ä sog str tel
    u.a vgl z.b z.t z.zt zzgl d.h o.g s.o s.u i.d i.a
    env mlle mgr p.ex av j.-c apr chap
    aprox avda ctra dña núm pza pág págs p.ej sra srta ud uds vd ee.uu
    sig dott ecc pag exmo bijv blz mevr dhr
    ул им обл просп пер пл тел т.е т.д""".split()
)
# The end of a sentence only before a word that begins sentences.
_MAYBE_LAST = frozenset(
    """a.m co corp est etc inc jr ltd p.m ph.d dist ave blvd jan feb mar apr aug sept oct nov dec usw uvm u.s.w
    ene febr abr dic janv févr avr juil déc янв фев февр апр авг сент окт нояб дек""".split()
)
# ... and only before a name, unless a number stands before them ("Ft. Knox", "5 ft.").
_BEFORE_NAMES = frozenset("bd ft hwy pt rte ul г".split())
_STARTERS = frozenset(
    "a after all also although an and another as at because before but by each even for from he her here his how however"
    " i if in instead it its many most my no not now on one our she since so some such that the their then there these"
    " they this those though thus to today two unlike until we what when where while who why with yet you your"
    " aber auch das der dem den die dies diese dieser ein eine er es für ihr sie und wir wenn"
    " ce ces cela elle elles il ils la le les mais nous on un une vous el ella ellas ellos esta este los las pero una".split()
)
# The pauses of texts, named by their kinds. One set of characters comes first: found much quicker than one of several patterns.
_PAUSES = (
    r"(?:(?P<wide>(?<=[。！？｡．।॥።။។])[。！？｡．।॥።။។]*[」』”’）】》〉\"')\]]*)"
    r"|(?P<end>(?<=[.!?…؟۔։])[.!?…؟۔։]*[\"'”’»)\]}*_]*)"
    r"|(?P<line>(?<=[\r\n])\s*)"
)
_PAUSE = re.compile(rf"[。！？｡．।॥።။។.!?…؟۔։\r\n]{_PAUSES})")
_THAI = re.compile("[\u0e01-\u0eff]")  # and Lao
_THAI_PAUSE = re.compile(  # short words after a space are names
    rf"[。！？｡．।॥።။។.!?…؟۔։\r\n ]{_PAUSES}|(?P<space>(?<=[\u0e01-\u0eff] ) *(?=[\u0e01-\u0eff]{{14}})))"
)
_MIN_THAI_CHARS = 20  # of a sentence that ends with a space
# After a number and a full stop, these words show an ordinal ("am 3. Mai", "im 19. Jahrhundert"), and so do the words before it.
_MONTHS = frozenset(
    """januar jänner februar märz april mai juni juli august september oktober november dezember jan feb mär apr jun jul aug sep
    sept okt nov dez januari februari marts maj juuli""".split()
)
_AFTER_ORDINAL = _MONTHS | frozenset(
    "auflage etage jahrhundert jahrtausend klasse kapitel platz quartal semester stock".split()
)
_BEFORE_ORDINAL = frozenset(
    "ab am beim bis das dem den der des die im ins jede jeden jeder seit und unser vom zum zur - –".split()
)
_BEFORE_NUMBERS = frozenset(
    "abb abs anm art aufl bd cap chap circa fig lfd max min n num pos rn s std ziff zimmer д кв корп стр".split()
)
_KNOWN = _TITLES | _MAYBE_LAST | _BEFORE_NUMBERS | _BEFORE_NAMES
_FOLLOWING_DIGIT = re.compile(r"\s+[\d§]")
_REST_OF_CHAIN = re.compile(r"\s(\w{1,2})\.")
_CHAINS = frozenset(title for title in _TITLES if "." in title)
_SPACED_DATE = re.compile(r"(?<!\d)\d{1,2}\.\s\d{1,2}\.\s\d{4}(?!\d)")
_ORDINAL = re.compile(r"(?:\d{1,2}|[IVX]{1,5})\Z")
_SPACED = re.compile(r"(?:(?<!\w)\w{1,2}\.\s?){1,3}\w{1,2}\Z")  # "z. B" before its last full stop
_WORD_BEFORE = re.compile(r"[^\s(\[{\"'“‘]*\Z")
_NEXT_WORD = re.compile(r"[\s\"'“‘«(\[*_]*([^\W\d_]+)")
_LIST_NUMBER = re.compile(r"[ \t]*(?:\d{1,3}|[a-zA-Z])\Z")


def split_sentences(text: str) -> list[tuple[int, int]]:
    r"""Return the `(start, end)` spans of the sentences of `text`, in order.

    Spans are trimmed, and only white space is between them, so no text is lost. Full stops, blank lines, list items and
    headings end a sentence. Abbreviations ("e.g.", "Dr."), initials, decimals and list numbers do not. Each line of a log, a
    table, a chat or a poem is a sentence. Lines of wrapped prose are joined. The time is linear in the length of the text.

    Example:
        >>> text = "Dr. Smith paid $3.50. He left, e.g. by train."
        >>> [text[start:end] for start, end in split_sentences(text)]
        ['Dr. Smith paid $3.50.', 'He left, e.g. by train.']
    """
    spans = []
    start = 0
    lines = LineRules(text)
    pauses = _THAI_PAUSE if not text.isascii() and _THAI.search(text) else _PAUSE
    for pause in pauses.finditer(text):
        if not _ends_sentence(text, start, pause, lines):
            continue
        span = trim_span(text, start, pause.start() if pause.lastgroup == "line" else pause.end())
        if span:
            spans.append(span)
        start = pause.end()
    if span := trim_span(text, start, len(text)):
        spans.append(span)
    return spans


def _ends_sentence(text: str, start: int, pause: re.Match[str], lines: LineRules) -> bool:
    kind = pause.lastgroup
    if kind == "line":
        return pause.start() in lines.breaks or pause.end() == len(text)
    if lines.is_whole(pause.start()):
        return False
    if kind == "space":
        return pause.start() - start >= _MIN_THAI_CHARS
    following = text[pause.end() : pause.end() + 1]
    if kind == "wide":
        return not (following.isdecimal() and pause[0] == "．")
    if following and not following.isspace():
        return False
    if pause[0][0] not in ".…":
        return not _next_is_lower(text, pause.end())
    return _is_full_stop(text, start, pause)


def _is_full_stop(text: str, start: int, pause: re.Match[str]) -> bool:
    at = pause.start()
    head = text[max(start, at - 24) : at]
    if len(pause[0]) > 3 and text[pause.end() : pause.end() + 2].strip():
        return False  # dots that lead to a price or a page
    plain_word = _plain_word_at_end(head)
    if plain_word:
        is_single = pause[0][0] == "." and pause[0][:2] != ".."
        return not _next_is_lower(text, pause.end()) or (is_single and len(plain_word) > 4)
    found = _WORD_BEFORE.search(head)
    word = found[0] if found else ""
    lower = word.lower()
    next_word = _NEXT_WORD.match(text, pause.end(), pause.end() + 64)
    follows = next_word[1] if next_word else ""
    spaced = _SPACED.search(head)
    chain = re.sub(r"\s", "", spaced[0]).lower() if spaced else ""
    if lower in _TITLES or chain in _TITLES or _begins_chain(text, pause, word):
        return False
    if (lower in _BEFORE_NUMBERS and _FOLLOWING_DIGIT.match(text, pause.end())) or _is_ordinal(head, word, follows):
        return False
    if lower in _BEFORE_NAMES and follows[:1].isupper() and not head[: len(head) - len(word)].rstrip()[-1:].isdigit():
        return False
    if word.isdigit() and any(
        m.start() < at < m.end() for m in _SPACED_DATE.finditer(text, max(start, at - 6), at + 10)
    ):
        return False
    line_start = max(text.rfind("\n", max(start, at - 24), at), text.rfind("\r", max(start, at - 24), at)) + 1
    if _LIST_NUMBER.fullmatch(text, max(start, line_start), at):
        return False  # "1. First"
    is_acronym = "." in word and all(len(part) == 1 for part in word.split("."))
    if lower in _MAYBE_LAST or is_acronym or (len(word) == 1 and word.isupper()):
        return follows.lower() in _STARTERS and follows[0].isupper()
    if follows[:1].islower():
        # Before a lower-case word, a short word is probably an unknown abbreviation; after a longer word the prose has no capitals.
        return pause[0][0] == "." and pause[0][:2] != ".." and len(word) > 4
    return True


def _plain_word_at_end(head: str) -> str:
    """Return the last word if it is three letters or more, and neither an abbreviation nor a Roman number; else ""."""
    word = head[head.rfind(" ") + 1 :]
    is_plain = len(word) > 2 and word.isalpha() and word.lower() not in _KNOWN and not _ORDINAL.match(word)
    return word if is_plain else ""


def _begins_chain(text: str, pause: re.Match[str], word: str) -> bool:
    """Return whether this word and the next word are an abbreviation that is written with a space ("z. B.", "p. ex.")."""
    rest = _REST_OF_CHAIN.match(text, pause.end())
    return rest is not None and any(title.startswith(f"{word.lower()}.{rest[1].lower()}") for title in _CHAINS)


def _is_ordinal(head: str, word: str, follows: str) -> bool:
    if not follows or not _ORDINAL.match(word):
        return False
    before = head[: len(head) - len(word)].split()
    return follows.lower() in _AFTER_ORDINAL or (bool(before) and before[-1].lower() in _BEFORE_ORDINAL)


def _next_is_lower(text: str, position: int) -> bool:
    following = _NEXT_WORD.match(text, position, position + 64)
    return following is not None and following[1][0].islower()


def shared_length(first: Sequence[object], second: Sequence[object]) -> int:
    """Return how many items (characters, words, tokens) two sequences have in common from their start.

    Example:
        >>> shared_length("token", "tokens"), shared_length([1, 2], [3, 2])
        (5, 0)
    """
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
