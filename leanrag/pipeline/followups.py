"""Follow-up questions in words that need no conversation, found without a model.

"Who built it?" after "How tall is the Eiffel Tower?" becomes "Who built the Eiffel Tower?". Pronouns, questions that lack a verb
("And in 2020?"), comparisons without their other side, and short names of something with a longer name are completed from the last
questions and answers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from leanrag.text import STOP_WORDS, answer_kind, content_words, split_sentences, without_marks
from leanrag.types import Exchange

__all__ = ["FollowUp", "complete_question"]

FollowUpKind = Literal["complete", "pronoun", "ellipsis", "comparison", "short name"]
"""What a question lacks without its conversation; "complete" if it lacks nothing."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A question of a conversation, in words that need no conversation.

    Attributes:
        text: The question.
        kind: What the words of the user lacked.
        is_sure: Whether the conversation names one thing that the question can speak of, not several or none.
    """

    text: str
    kind: FollowUpKind
    is_sure: bool = True


@dataclass(frozen=True, slots=True)
class _Language:
    """The words by which follow-up questions are known in a language.

    Attributes:
        marks: Words that only questions in this language have.
        persons: Pronouns for a person.
        things: Pronouns for a thing, an idea or a place.
        many: Pronouns for several.
        connectives: Words that begin a follow-up question.
    """

    marks: frozenset[str]
    persons: frozenset[str]
    things: frozenset[str]
    many: frozenset[str]
    connectives: frozenset[str]

    @property
    def pronouns(self) -> frozenset[str]:
        return self.persons | self.things | self.many


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENGLISH = _Language(
    marks=frozenset(),
    persons=_set("he she him her his hers himself herself"),
    things=_set("it its itself there this that"),
    many=_set("they them their theirs themselves these those"),
    connectives=_set("and but or so then also plus"),
)
_OTHERS = (
    _Language(
        marks=_set("wer wen wem was wann wo wie warum wieso welche welcher welches welchen und ist sind war"),
        persons=_set("er ihn ihm seine seiner seinen sein"),
        things=_set("es dort davon dazu damit dafür daran darin dies dieses"),
        many=_set("sie ihnen ihr ihre ihrer ihren diese dieser"),
        connectives=_set("und aber oder also dann auch"),
    ),
    _Language(
        marks=_set("qui que quoi quand où comment pourquoi quel quelle quels quelles combien est-ce et"),
        persons=_set("il elle lui -il -elle -t-il -t-elle"),
        things=_set("son sa ses cela ça y en celui-ci celle-ci"),
        many=_set("ils elles leur leurs eux -ils -elles"),
        connectives=_set("et mais ou alors aussi"),
    ),
    _Language(
        marks=_set("quién quiénes qué cuándo dónde cómo cuál cuáles cuánto cuánta cuántos cuántas por y"),
        persons=_set("él ella lo la le"),
        things=_set("su sus ello esto eso allí ahí"),
        many=_set("ellos ellas les los"),
        connectives=_set("y pero o entonces también"),
    ),
)
_UNSPACED_PRONOUNS = re.compile("[它他她牠其]|这|那|這|それ|これ|あれ|彼|その|この")

_TOKEN = re.compile(r"[^\W_]+(?:[.,'’_\-/&][^\W_]+)*|[^\w\s]")
_YEAR = re.compile(r"\b(?:1\d|20)\d\d\b")
_NUMBER = re.compile(r"\b\d+(?:[.,]\d+)*\b")
_AUXILIARIES = _set(
    """is are was were be been am do does did done can could has have had will would shall should may might must isn't aren't
    wasn't weren't don't doesn't didn't"""
)
_QUESTION_WORDS = _set("who whom whose what which when where why how")
_BEGINNINGS = (
    _QUESTION_WORDS
    | _AUXILIARIES
    | _set(
        """name give list tell describe explain show find compare in on at by for from to of with during after before since until
    under about according please"""
    )
)
_INSIDE_NAMES = _set("of de la du da von van der den the del di al el bin ibn y")
_DETERMINERS = _set("the a an this that these those our my your their its his her each every any some")
_PHRASE_END = STOP_WORDS | _AUXILIARIES | _QUESTION_WORDS
_EXPLETIVE = re.compile(
    r"\b(?:is|was|does|did|would|will|can|could|has) it (?:possible|impossible|necessary|true|important|legal|safe|take|cost|mean|"
    r"rain|snow|help|matter|ok|okay|allowed|common|likely)\b|\bit (?:takes?|took|costs?|means?|is|was) (?:\w+ )?(?:to|that|for)\b|"
    r"\b(?:is|are|was|were|will|can|has|have) there\b|\bthere (?:is|are|was|were|will|has|have)\b|"
    r"\b(?:so|such|now|given|provided|the fact|say|says|said|means?|showed?|shows|believed?|think|thought|known?) that\b",
    re.IGNORECASE,
)
_COMPARES = re.compile(
    r"\b(?:which|who|what)\b.*\b(?:more|less|fewer|better|worse|(?!other|number|over|under|after|ever|never|whether|either|further"
    r"|order|member|river|water|power|paper|letter|former|latter|computer|leader|center|user|layer|server|winner)\w{3,}er)\b|"
    r"\b(?:both|either|neither|the former|the latter|the other|the difference)\b",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"\s*(?:(?:and|but|so|or|then)[\s,]+)?(?:what|how) about\b\s*", re.IGNORECASE)
_CONNECTIVE = re.compile(r"\A\s*(?:and|but|so|or|then|also|plus)\b[\s,]*", re.IGNORECASE)
_ASKS_WHERE = re.compile(r"\bwhere\b|\bwhich (?:city|country|place|town)\b", re.IGNORECASE)
_PREPOSITION = re.compile(r"(in|on|at|for|of|from|to|with|by|during|under|after|before)\s", re.IGNORECASE)
_CLAUSE_WORDS = _set("when if while because after before until since although though unless once that")
_POSSESSIVES = _set("its his her their")
_MAX_TERMS = 4


def complete_question(question: str, exchanges: Sequence[Exchange]) -> FollowUp:
    """Return a question in words that need no conversation.

    Args:
        question: The words of the user.
        exchanges: What was said before, oldest first.

    Example:
        >>> before = [Exchange("How tall is the Eiffel Tower?", "It is 330 metres tall.")]
        >>> complete_question("Who built it?", before).text
        'Who built the Eiffel Tower?'
        >>> complete_question("And the Louvre?", before).text
        'How tall is the Louvre?'
    """
    if not exchanges:
        return FollowUp(question, "complete")
    words, language = _words(question), _language_of(question)
    if language is not _ENGLISH:
        return _complete_foreign(question, words, language, exchanges)
    if found := _complete_ellipsis(question, words, exchanges):
        return found
    if pronoun := _find_pronoun(question):
        return _complete_pronoun(question, pronoun, exchanges)
    if _COMPARES.search(question) and not re.search(r"\bthan\b", question, re.IGNORECASE):
        return _complete_comparison(question, exchanges)
    return _complete_short_name(question, exchanges) or _complete_topic(question, words, exchanges)


# What a question lacks


def _complete_ellipsis(question: str, words: Sequence[str], exchanges: Sequence[Exchange]) -> FollowUp | None:
    """Complete a question without a verb from the last question; None if the question has all that it needs."""
    last = _standalone(exchanges[-1])
    about = _ABOUT.match(question)
    rest = question[about.end() :] if about else _CONNECTIVE.sub("", question, count=1)
    begins = rest != question
    has_verb = any(word in _AUXILIARIES for word in words) and about is None
    content = content_words(rest)
    asks = bool(_QUESTION_WORDS & set(_words(rest))) and about is None
    if about is None and (has_verb or (asks and len(content) > 1) or (not begins and (content and not asks))):
        return None
    if pronoun := _find_pronoun(question):
        return None if has_verb else _complete_pronoun(question, pronoun, exchanges)
    if swapped := _swap(last, rest):
        return FollowUp(swapped, "ellipsis")
    joined = f"{last} {question[:1].upper()}{question[1:]}"
    return FollowUp(joined, "ellipsis")


def _swap(last: str, rest: str) -> str | None:
    """Return the last question with another year, number or name in it; None if it is not clear which."""
    phrase = rest.strip().strip("?.! ")
    if len(phrase.split()) > 6 or not phrase or _QUESTION_WORDS & set(_words(phrase)):
        return None
    for pattern in (_YEAR, _NUMBER):
        new, old = pattern.findall(phrase), pattern.findall(last)
        if len(new) == len(old) == 1 and not names_in(phrase):
            return pattern.sub(new[0], last)
    preposition = _PREPOSITION.match(phrase)
    if preposition and (begins := list(re.finditer(rf"\b{preposition[1]}\b", last, re.IGNORECASE))):
        return f"{last[: begins[-1].start()]}{phrase}?"
    bare = re.sub(r"^the\s+", "", _PREPOSITION.sub("", phrase), flags=re.IGNORECASE)
    new, old = names_in(phrase, is_whole=True), names_in(last)
    if new and len(old) == 1:
        return _replace(last, old[0], _phrase_like(phrase, new[0]))
    if not new and not old and len(noun := _noun_phrases(last)) == 1:
        return last.replace(noun[0], f"the {bare}" if phrase.lower().startswith("the ") else bare)
    return None


def _phrase_like(phrase: str, name: str) -> str:
    """Return the name with the article that stands before it."""
    found = re.search(rf"\bthe\s+{re.escape(name)}", phrase, re.IGNORECASE)
    return f"the {name}" if found else name


def _complete_pronoun(question: str, pronoun: re.Match[str], exchanges: Sequence[Exchange]) -> FollowUp:
    """Put what a pronoun speaks of in its place; behind the question if that is not clear."""
    asked = set(_words(question))
    candidates = _antecedents(_bare(pronoun), exchanges, asked)
    if len(candidates) == 1:
        return FollowUp(_substitute(question, pronoun, candidates[0]), "pronoun")
    return FollowUp(_append(question, candidates or [_standalone(exchanges[-1])]), "pronoun", is_sure=False)


def _complete_comparison(question: str, exchanges: Sequence[Exchange]) -> FollowUp:
    compared = _distinct(name for exchange in exchanges[-2:] for name in _subjects(exchange))
    asked = set(_words(question))
    missing = [name for name in compared if not set(_words(name)) <= asked]
    if not missing:
        return FollowUp(question, "complete")
    return FollowUp(_append(question, missing[-_MAX_TERMS:]), "comparison", is_sure=len(compared) > 1)


def _complete_short_name(question: str, exchanges: Sequence[Exchange]) -> FollowUp | None:
    """Put the whole name in the place of its last word: "the tower" after "the Eiffel Tower"."""
    known = [
        name
        for exchange in reversed(exchanges)
        for name in (*names_in(_standalone(exchange)), *_answer_names(exchange))
    ]
    for name in known:
        first, _, head = name.rpartition(" ")
        if not first:
            continue
        found = re.search(rf"\b(?:the|this|that)\s+{re.escape(head.lower())}\b", question)
        if found:
            return FollowUp(question[: found.start()] + f"the {name}" + question[found.end() :], "short name")
    return None


def _complete_topic(question: str, words: Sequence[str], exchanges: Sequence[Exchange]) -> FollowUp:
    """Add what the conversation is about to a question that names little: "What is the deadline?", "And who pays?"."""
    begins = _CONNECTIVE.match(question) is not None
    content = content_words(_CONNECTIVE.sub("", question, count=1))
    if names_in(question) or len(content) > (2 if begins else 1) or not (begins or "the" in words):
        return FollowUp(question, "complete")
    topics = _subjects(exchanges[-1])
    if not topics or set(content) & set(content_words(" ".join(topics))):
        return FollowUp(question, "complete")
    return FollowUp(_append(question, topics[:_MAX_TERMS]), "ellipsis", is_sure=len(topics) == 1)


def _complete_foreign(
    question: str, words: Sequence[str], language: _Language | None, exchanges: Sequence[Exchange]
) -> FollowUp:
    """Add the names of the last question to a question in another language that has a pronoun or lacks words."""
    last = _standalone(exchanges[-1])
    if language is None:
        is_open = _UNSPACED_PRONOUNS.search(question) is not None or len(question.strip("?？。 ")) <= 4
        return (
            FollowUp(_append(question, [last]), "pronoun", is_sure=False) if is_open else FollowUp(question, "complete")
        )
    pronoun = next((word for word in words if word in language.pronouns), None)
    content = [word for word in words if word not in language.marks | language.connectives and len(word) > 3]
    if pronoun is None and not (words and words[0] in language.connectives and len(content) <= 2):
        return FollowUp(question, "complete")
    names = names_in(last)
    is_person = pronoun in language.persons and answer_kind(exchanges[-1].question) == "name"
    terms = _answer_names(exchanges[-1]) if is_person else names
    kind: FollowUpKind = "ellipsis" if pronoun is None else "pronoun"
    return FollowUp(
        _append(question, terms[:_MAX_TERMS] or [last]), kind, is_sure=len(terms) == 1 and pronoun is not None
    )


# What a pronoun can speak of


def _antecedents(pronoun: str, exchanges: Sequence[Exchange], asked: Set[str]) -> list[str]:
    """Return what a pronoun can speak of; the last exchange that names something decides.

    Args:
        pronoun: In lower case.
        exchanges: What was said before.
        asked: The words of the question, which names what is in it.
    """
    for exchange in reversed(exchanges):
        subjects, answers = (
            [name for name in names if not set(_words(name)) - {"the"} <= asked]
            for names in (_subjects(exchange), _answer_names(exchange))
        )
        if candidates := _fitting(pronoun, exchange, subjects, answers):
            return _distinct(candidates)[:_MAX_TERMS]
    return []


def _fitting(pronoun: str, exchange: Exchange, subjects: list[str], answers: list[str]) -> list[str]:
    """Return the subjects of a question, or else the names in its answer, that a pronoun can stand for."""
    if pronoun in _ENGLISH.persons:
        people = [name for name in answers if _may_be_person(name)] if answer_kind(exchange.question) == "name" else []
        return people or [name for name in subjects if _may_be_person(name)] or answers
    if pronoun == "there":
        return (answers if _ASKS_WHERE.search(exchange.question) else []) or subjects
    is_many = pronoun in _ENGLISH.many
    agreeing = [name for name in subjects if _is_plural(name) == is_many]
    has_names = bool(names_in(_standalone(exchange)))
    return agreeing or (subjects if has_names or not is_many else answers) or subjects or answers


def _subjects(exchange: Exchange) -> list[str]:
    """Return what a question is about: its names, or else its phrases after an article; what it asks for has no name."""
    question = _standalone(exchange)
    names = [_phrase_like(question, name) for name in names_in(question)]
    return names or _noun_phrases(question) or _answer_names(exchange)


def _standalone(exchange: Exchange) -> str:
    return (exchange.standalone or exchange.question).strip()


def _answer_names(exchange: Exchange) -> list[str]:
    """Return the names in an answer that its question does not have."""
    if exchange.is_refusal:
        return []
    answer = without_marks(exchange.answer)
    sentences = split_sentences(answer)
    first = answer[sentences[0][0] : sentences[0][1]] if sentences else answer
    asked = set(_words(_standalone(exchange)))
    is_short = len(first.split()) <= 4
    return [name for name in names_in(first, is_whole=is_short) if not set(_words(name)) <= asked]


def names_in(text: str, *, is_whole: bool = False) -> list[str]:
    """Return the names in a text: runs of words with capitals or digits, in order, each once.

    Args:
        text: A question or a sentence.
        is_whole: Whether the first word can be a name alone although every sentence begins with a capital.
    """
    tokens = list(_TOKEN.finditer(text))
    first = next((i for i, token in enumerate(tokens) if token[0][0].isalnum()), 0)
    names: list[str] = []
    i = first
    while i < len(tokens):
        if not _is_name_word(tokens[i][0]) or (i == first and tokens[i][0].lower() in _BEGINNINGS | STOP_WORDS):
            i += 1
            continue
        end = _name_end(tokens, i)
        is_capital_of_sentence = i == first and end == first + 1
        if not is_capital_of_sentence or is_whole:
            name = text[tokens[i].start() : tokens[end - 1].end()]
            names.append(re.sub(r"['’]s?$", "", name))
        i = end
    return _distinct(names)


def _name_end(tokens: Sequence[re.Match[str]], start: int) -> int:
    """Return the index after the last word of the name that begins at `start`."""
    end = start + 1
    while end < len(tokens) and not re.search(r"['’]s?$", tokens[end - 1][0]):
        is_link = tokens[end][0] in _INSIDE_NAMES and _name_follows(tokens, end + 1)
        if not (is_link or _is_name_word(tokens[end][0]) or tokens[end][0][0].isdigit()):
            break
        end += 1
    return end


def _name_follows(tokens: Sequence[re.Match[str]], i: int) -> bool:
    while i < len(tokens) and tokens[i][0] in _INSIDE_NAMES:
        i += 1
    return i < len(tokens) and (_is_name_word(tokens[i][0]) or tokens[i][0].isdigit())


def _is_name_word(word: str) -> bool:
    if word.lower() in _PHRASE_END and not (word.isupper() and len(word) > 1):
        return False
    has_digit = any(map(str.isdigit, word)) and any(map(str.isalpha, word))
    return word[0].isupper() or has_digit or "_" in word


def _noun_phrases(question: str) -> list[str]:
    """Return the phrases after an article, up to the next function word; else the last words that are not function words."""
    tokens = list(_TOKEN.finditer(question))
    phrases, i = [], 0
    while i < len(tokens):
        if tokens[i][0].lower() in _DETERMINERS:
            end = i + 1
            while end < len(tokens) and tokens[end][0].lower() not in _PHRASE_END and tokens[end][0][0].isalnum():
                end += 1
            if end > i + 1:
                is_named = tokens[i][0].lower() in ("the", "a", "an")
                start = tokens[i].start() if not is_named else tokens[i + 1].start()
                phrases.append(("the " if is_named else "") + question[start : tokens[end - 1].end()])
            i = max(end, i + 1)
        else:
            i += 1
    return _distinct(phrases)


def _may_be_person(name: str) -> bool:
    return not name.startswith("the ") and not any(map(str.isdigit, name))


def _is_plural(name: str) -> bool:
    word = name.rpartition(" ")[2].lower()
    return word.endswith("s") and not word.endswith(("ss", "us", "is"))


# Words


def _find_pronoun(question: str) -> re.Match[str] | None:
    """Return the first pronoun that speaks of something outside the question; None if there is none."""
    plain = _EXPLETIVE.sub(lambda found: " " * len(found[0]), question)
    tokens = list(_TOKEN.finditer(plain))
    for i, found in enumerate(tokens):
        word = _bare(found)
        following = tokens[i + 1][0].lower() if i + 1 < len(tokens) else ""
        has_noun = following[:1].isalnum() and following not in _PHRASE_END
        if word == "that" and (has_noun or (i and following and _bare(tokens[i - 1]) not in _PHRASE_END)):
            continue  # it begins a clause ("the law that was passed"), or the noun after it may be named elsewhere
        if word in _ENGLISH.pronouns and not _is_named_before(tokens[:i], word, plain):
            return found
    return None


def _bare(token: re.Match[str]) -> str:
    """Return a word in lower case, without "'s" and the like."""
    return re.split("['’]", token[0].lower())[0]


def _is_named_before(tokens: Sequence[re.Match[str]], pronoun: str, question: str) -> bool:
    """Return whether the question itself names, before a pronoun, what it speaks of: "When did Ada begin her work?"."""
    if not (pronoun in _POSSESSIVES or any(_bare(token) in _CLAUSE_WORDS for token in tokens[1:])):
        return False  # in one clause, a name and a pronoun are two things
    text = question[: tokens[-1].end()] if tokens else ""
    is_many = pronoun in _ENGLISH.many
    is_person = pronoun in _ENGLISH.persons
    return any(is_person or _is_plural(name) == is_many for name in (*names_in(text), *_noun_phrases(text)))


def _substitute(question: str, found: re.Match[str], name: str) -> str:
    """Put a name in the place of a pronoun."""
    pronoun, following = _bare(found), question[found.end() :]
    has_noun = re.match(r"\s+[^\W\d_]+", following) is not None
    if pronoun in ("this", "these", "those") and has_noun:
        return _append(question, [name])
    if pronoun == "there":
        name = f"in {name}"
    elif pronoun in _POSSESSIVES or (pronoun == "her" and has_noun):
        name += "'" if name.endswith("s") else "'s"
    text = question[: found.start()] + name + question[found.start() + len(pronoun) :]
    text = _CONNECTIVE.sub("", text, count=1)
    return text[:1].upper() + text[1:]


def _replace(text: str, old: str, new: str) -> str:
    pattern = re.compile(rf"(?:\bthe\s+)?{re.escape(old)}", re.IGNORECASE)
    return pattern.sub(lambda _: new, text, count=1)


def _append(question: str, terms: Sequence[str]) -> str:
    return f"{question.rstrip()} ({', '.join(term.rstrip('?') for term in terms)})"


def _words(text: str) -> list[str]:
    return [found[0].lower() for found in _TOKEN.finditer(text) if found[0][0].isalnum()]


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))


@functools.lru_cache(maxsize=256)
def _language_of(question: str) -> _Language | None:
    """Return the language of a question, English if none is better; None for scripts without spaces."""
    if re.search("[\u3040-\u30ff\u4e00-\u9fff]", question):
        return None
    words = set(_words(question))
    counts = [len(words & language.marks) for language in _OTHERS]
    n_english = len(words & (_QUESTION_WORDS | _AUXILIARIES | {"the", "and", "of", "it", "in", "what"}))
    best = max(range(len(_OTHERS)), key=counts.__getitem__)
    return _OTHERS[best] if counts[best] > n_english else _ENGLISH
