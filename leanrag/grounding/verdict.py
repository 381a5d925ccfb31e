"""Does the answer stand in the sources, and where: verbatim citations, [n] marks, and a verdict.

By rules alone: it costs milliseconds, needs no model, and whatever it quotes is in the document, character for character. An
entailment check may look at what the rules let pass.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from leanrag.grounding.candidates import has_better_candidate
from leanrag.grounding.claims import Claim, Passage, holds
from leanrag.grounding.clauses import CONJUNCTIONS, fine_segments, opposites_of, stem_of
from leanrag.grounding.compare import contradiction
from leanrag.grounding.compounds import fit_codes, fit_compounds, fit_days
from leanrag.grounding.index import PlaceIndex, covered_share
from leanrag.grounding.lexicon import ALL, ALLOWED, ANAPHORS, ARTICLES, AUXILIARIES, IRREGULAR, NEGATIONS
from leanrag.grounding.marks import goes_on, sentences_of, with_marks
from leanrag.grounding.places import Place, Style, find_places, style_of
from leanrag.grounding.predicates import answers_another_predicate
from leanrag.grounding.reading import Token, base_of
from leanrag.grounding.rivals import is_of_another
from leanrag.protocols import EntailmentChecker
from leanrag.text import without_marks
from leanrag.types import Citation, PackedItem

__all__ = ["Grounding", "ground"]

SUPPORT_THRESHOLD = 0.6
"""Least share of a sentence's information that a place must hold to be cited for it."""

SUBJECT_THRESHOLD = 0.25
"""Least share of the question's information that the cited sources must speak of."""

RELEVANCE_THRESHOLD = 0.3
"""Least that the place of a short answer must speak of the question, beside the place that speaks of it most."""

ENTAILMENT_THRESHOLD = 0.5
"""Least probability that an entailment check must give to a sentence that a place is cited for."""

_MOST_COMPARED = 24  # places that are looked at closely for one claim
_ANSWERED = 0.75  # least share of a yes-or-no question that a place must hold to answer it

_YES = frozenset("yes ja oui sí si sim yep да tak نعم".split())
_NO = frozenset("no nein non não nej nee nope нет nie لا".split())
_FUTURE = frozenset({"going"})
_SENTENCE_ENDS = frozenset(".!?;。！？")
_QUESTION_WORDS = frozenset(
    """what who whom whose which when where why how wer wen wem was wann wo wie welche welcher welches warum wieviel
    qui que quoi quand où comment combien quel quelle quels quelles pourquoi qué quién cuándo dónde cómo cuánto cuántos cuál
    chi cosa quando dove come quanto wie wat waar wanneer quem onde""".split()
)
_KIND_QUESTIONS = frozenset(
    "which what how welche welcher welches wie quel quelle quels quelles qué cuál quale quali welke qual".split()
)
_CODE = re.compile(r"\w+(?:[-_./]\w+)+")
_HOW = frozenset("how wie comment cómo come hoe como".split())
_SCRIPT_QUESTION_WORDS = re.compile(
    "什么时候|什麼時候|为什么|為什麼|怎么样|什么|什麼|怎么|怎麼|哪里|哪裡|哪儿|哪个|哪年|哪|谁|誰|多少|几|幾|どこ|なに|何|いつ|いくら|いくつ|どの|どう|なぜ"
    "|ที่ไหน|อะไร|ใคร|เมื่อไหร่|เมื่อไร|เท่าไหร่|เท่าไร|กี่|ทำไม|อย่างไร"
)


@dataclass(frozen=True, slots=True)
class Grounding:
    """What `ground` found.

    Attributes:
        text: The answer, its supported sentences ending with [n] marks.
        citations: The quotes that carry the supported sentences, in order of the text, none twice.
        support: Share of the answer's information found in the sources, in [0, 1].
        subject: Share of the question's information that the sources speak of, in [0, 1].
        is_supported: Both are large enough, and no sentence contradicts the place that comes nearest to it.
    """

    text: str
    citations: tuple[Citation, ...]
    support: float
    subject: float
    is_supported: bool


def ground(
    question: str,
    answer: str,
    items: Sequence[PackedItem],
    *,
    cited: Collection[int] = (),
    check: EntailmentChecker | None = None,
) -> Grounding:
    """Look for the quotes that carry each sentence of `answer`.

    Marks that the model wrote itself are removed: a mark means that a quote was found. A sentence's support is the share of its
    content words, weighted by how rare they are in the sources, that stand at one place: in a sentence, a row or a line, with the
    headings above it. Words of the question count little. A place that contradicts the sentence does not support it: see
    `leanrag.grounding.compare.CHECKS` for what is compared. If no place carries a sentence, its clauses are looked up one by one.

    Args:
        question: As asked.
        answer: The model's words.
        items: The sources that it read.
        cited: Numbers of the sources that the model named. Of places that carry a sentence equally well, those in these sources
            come first.
        check: Looks at each sentence and quote that the rules let pass; None for the rules alone.
    """
    answer = without_marks(answer).strip()
    sources = _Sources(question, answer, items, cited)
    texts = [item.text for item in items]
    sentences = list(sentences_of(answer))
    findings = [sources.find(answer[start:end], check) for start, end, _ in sentences]
    numbers = [list(dict.fromkeys(place.item.number for place in finding.places)) for finding in findings]
    pieces: list[str] = []
    end_of_last = 0
    for i, (start, end, is_code) in enumerate(sentences):
        is_last = i + 1 == len(sentences)
        if not is_last and set(numbers[i]) <= set(numbers[i + 1]) and goes_on(answer, end, sentences[i + 1][0], texts):
            numbers[i] = []  # the sentence ends later
        pieces += answer[end_of_last:start], with_marks(answer[start:end], numbers[i], is_code)
        end_of_last = end
    pieces.append(answer[end_of_last:])
    citations: dict[tuple[int, int, int], Citation] = {}
    for finding in findings:
        for citation in (place.cite(finding.support) for place in finding.places):
            citations.setdefault((citation.number, citation.start, citation.end), citation)
    is_contradicted = any(finding.is_contradicted for finding in findings)
    total = sum(finding.information for finding in findings)
    supported = sum(finding.support * finding.information for finding in findings)
    support = supported / total if total else 0.0
    subject = sources.subject([place for finding in findings for place in finding.places])
    return Grounding(
        text="".join(pieces),
        citations=tuple(citations.values()),
        support=min(support, 1.0),
        subject=subject,
        is_supported=(
            bool(citations) and not is_contradicted and support >= SUPPORT_THRESHOLD and subject >= SUBJECT_THRESHOLD
        ),
    )


@dataclass(frozen=True, slots=True)
class _Finding:
    """What carries a sentence: the places, one for each of its clauses; none if it is not supported."""

    places: tuple[Place, ...]
    support: float
    information: float
    is_contradicted: bool = False


class _Sources:
    """The places of the sources, and the question about them."""

    def __init__(self, question: str, answer: str, items: Sequence[PackedItem], cited: Collection[int]) -> None:
        self._cited = cited
        self._question_text = question
        self._places = find_places(items)
        style = style_of(question, answer)
        sources = style_of("", *(item.text for item in items))
        self._style = Style(style.decimal_comma or sources.decimal_comma, style.german or sources.german)
        self._question = self._read(_SCRIPT_QUESTION_WORDS.sub(" ", question))
        self._asked = frozenset(token.base for token in self._question if token.is_content)
        self._index = PlaceIndex(self._places, self._asked)
        self._passages: dict[int, Passage] = {}
        words = [token.word for token in self._question if token.kind == "word"]
        self._is_polar = (bool(words) and _QUESTION_WORDS.isdisjoint(words) and "?" in question) or words[:1] in [
            [w] for w in AUXILIARIES
        ]

    @functools.cached_property
    def _known(self) -> dict[str, Token]:
        """The content words of the sources."""
        tokens = (token for place in self._places for token in (*place.tokens, *place.context))
        return {token.word: token for token in tokens if token.is_content and token.kind == "word"}

    @functools.cached_property
    def _days(self) -> dict[str, Token]:
        """The dates of the sources."""
        tokens = (token for place in self._places for token in (*place.tokens, *place.context))
        return {token.base: token for token in tokens if token.day is not None}

    def _read(self, text: str) -> tuple[Token, ...]:
        """The tokens of a question or a sentence of an answer; dates and German compounds fit those of the sources."""
        tokens = self._style.read(text)
        if any(token.day is not None for token in tokens):
            tokens = fit_days(tokens, self._days)
        return fit_compounds(tokens, self._known) if self._style.german else tokens

    @functools.cached_property
    def _relevance(self) -> dict[int, float]:
        """How far each place, by its identity, speaks of the question."""
        return self._shares(self._question)

    def _shares(self, tokens: Sequence[Token]) -> dict[int, float]:
        """How far each place, by its identity, carries some words."""
        return {id(place): share for place, share in zip(self._places, self._index.shares(tokens), strict=True)}

    # Looking up

    def find(self, sentence: str, check: EntailmentChecker | None) -> _Finding:
        """Return the places that carry a sentence of the answer; none if an entailment check does not agree."""
        finding = self.look_up(sentence)
        if finding.places and check is not None and not self.passes(finding, sentence, check):
            return _Finding((), 0.0, finding.information, True)
        return finding

    def look_up(self, sentence: str) -> _Finding:
        """Return the places that carry a sentence of the answer."""
        tokens, reply = _without_reply(fit_codes(self._read(sentence), self._index.bases))
        if tokens and tokens[0].is_name and (self._index.is_written_small(tokens[0].word) or _is_imperative(tokens)):
            tokens = (replace(tokens[0], is_name=False, base=base_of(tokens[0].word)), *tokens[1:])
        if len([token for token in tokens if token.kind != "pause"]) == 1 and _is_letter(tokens[0]):
            tokens = (replace(tokens[0], is_name=True, is_content=True), *tokens[1:])
        content = [token for token in tokens if token.is_content]
        information = self._index.information(tokens)
        if not content:
            return self._look_up_reply(reply) if reply else _Finding((), 0.0, 0.0)
        names_new_code = any(code not in self._question_text.casefold() for code in _CODE.findall(sentence.casefold()))
        says_nothing_new = not (self._is_polar or names_new_code) and all(map(self._is_asked, content))
        if says_nothing_new and not any(token.word in NEGATIONS for token in tokens):
            return _Finding((), 0.0, information)
        if reply and self._look_up_reply(-reply).places:
            return _Finding((), 0.0, information, True)
        place, support, is_contradicted = self._best(self._claim(tokens))
        if place is not None and support >= SUPPORT_THRESHOLD:
            return _Finding((place,), support, information)
        for name in content if len(content) == 2 and self._index.is_full_name(*content) else ():
            place, support, _ = self._best(self._claim((name,)), least=SUPPORT_THRESHOLD)
            if place is not None and name.base in place.bases:  # it has only the first or the last name of the person
                return _Finding((place,), support, information)
        parts = _parts(tokens)
        if len(parts) > 1:
            found: list[tuple[float, Place]] = []
            for part in parts:
                best, share, _ = self._best(self._claim(part, is_part=True), least=SUPPORT_THRESHOLD)
                if best is None:
                    break
                found.append((share, best))
            else:
                places = dict.fromkeys(best for _, best in found)
                return _Finding(tuple(places), min(share for share, _ in found), information)
        return _Finding((), support, information, is_contradicted)

    def _is_asked(self, token: Token) -> bool:
        """Whether the question holds a word; an option such as "--follow" is not the word "follow"."""
        return token.base in self._asked and (token.kind != "identifier" or token.text in self._question_text)

    def _look_up_reply(self, reply: int) -> _Finding:
        """The place that answers a question with yes or no as the answer does."""
        if not self._is_polar or not self._asked:
            return _Finding((), 0.0, 0.0)
        denial = (Token("word", "not", "not"),) if reply < 0 else ()
        asked = tuple(token for token in self._question if token.word not in ALLOWED | _FUTURE) or self._question
        tokens = (*asked[:1], *denial, *asked[1:])
        ranked = [(share, place) for share, place in self._ranked(tokens) if share >= _ANSWERED]
        if any(self._reply_in(place) == -reply for _, place in ranked):
            return _Finding((), 0.0, 1.0, True)
        most = max((self._count_asked(place) for _, place in ranked), default=0)
        for share, place in ranked:
            # where only what stands above it says something of what was asked
            says_nothing = self._asked.isdisjoint(place.bases) and not _reply_of(place.tokens)
            if says_nothing or self._count_asked(place) < most:
                continue
            if place.cells and self._reply_in(place):
                return _Finding((place,), share, 1.0)
            if (
                contradiction(Claim(tokens, is_fragment=True), self._passage(place), self._index.weights(tokens))
                is None
            ):
                return _Finding((place,), share, 1.0)
        return _Finding((), 0.0, 1.0, True)

    def _reply_in(self, place: Place) -> int:
        """What a place replies: -1 for "no", 1 for "yes"; of a row, in the column that was asked about."""
        cells = [cell.tokens for cell in place.cells if cell.name and cell.name <= self._asked]
        return next(filter(None, map(_reply_of, cells)), 0) if place.cells else _reply_of(place.tokens)

    def _count_asked(self, place: Place) -> int:
        """How many words of the question stand in a place or right above it."""
        return len(self._asked & (place.bases | place.part_bases | place.near | place.antecedent_bases))

    def _claim(self, tokens: tuple[Token, ...], *, is_part: bool = False) -> Claim:
        bases = {token.base for token in tokens if token.is_content}
        asked = self._asked
        begins_with_pronoun = bool(tokens) and tokens[0].word in ANAPHORS
        auxiliaries = AUXILIARIES if self._style.decimal_comma else AUXILIARIES - ARTICLES  # "a" is French, too
        if self._style.german:
            auxiliaries -= {"am"}
        has_auxiliary = any(token.word in auxiliaries and not token.is_name for token in tokens)
        says_little = len(bases & asked) < len(asked) / 2 and not has_auxiliary
        says_little = says_little and not _has_name_and_verb(tokens)
        is_fragment = bool(asked) and not is_part and (begins_with_pronoun or (says_little and len(bases - asked) <= 6))
        return Claim(
            tokens,
            self._question if asked else (),
            is_fragment,
            whole_of(self._question, tokens) if is_fragment else tokens,
        )

    def _ranked(self, tokens: Sequence[Token]) -> list[tuple[float, Place]]:
        shares = [pair for pair in zip(self._index.shares(tokens), self._places, strict=True) if pair[0] > 0]
        shares.sort(key=lambda pair: (-round(pair[0], 6), not self._is_cited(pair[1]), pair[1].end - pair[1].start))
        return shares

    def _is_cited(self, place: Place) -> bool:
        return place.item.number in self._cited

    def _best(self, claim: Claim, *, least: float = 0.0) -> tuple[Place | None, float, bool]:
        """The place that carries a claim, how far it does, and whether there is none because all places near it contradict it.

        Places that carry less than `least` of it are not looked at.
        """
        ranked = [(share, place) for share, place in self._ranked(claim.tokens)[:_MOST_COMPARED] if share >= least]
        if claim.is_fragment:  # of equals, where the question is spoken of
            ranked.sort(
                key=lambda pair: (
                    -round(pair[0], 6),
                    not self._is_cited(pair[1]),
                    -round(self._relevance[id(pair[1])], 6),
                )
            )
        weights = self._index.weights((*claim.tokens, *claim.whole, *claim.question))
        relevance = self._relevance
        if not claim.is_fragment:  # it says itself what it is about
            relevance = self._shares([token for token in claim.tokens if token.base in self._asked])
        most_relevant = max(relevance.values(), default=0.0)
        is_contradicted = False
        for share, place in ranked:
            if (
                relevance[id(place)] >= RELEVANCE_THRESHOLD * most_relevant
                and contradiction(claim, self._passage(place), weights) is None
                and not is_of_another(claim, place, self._index)
                and not answers_another_predicate(claim, place, self._index)
            ):
                if has_better_candidate(claim, place, self._index):
                    return None, 0.0, True
                return place, share, is_contradicted
            is_contradicted |= share >= SUPPORT_THRESHOLD / 2
        return None, 0.0, is_contradicted

    def _passage(self, place: Place) -> Passage:
        """Return what a claim is compared with; it is the same for each claim."""
        passage = self._passages.get(id(place))
        if passage is None:
            passage = self._passages[id(place)] = self._make_passage(place)
        return passage

    def _make_passage(self, place: Place) -> Passage:
        return Passage(
            place.tokens,
            (*place.context, *place.antecedents),
            self._index.bases,
            _reply_of(place.tokens),
            place.record,
            place.line,
            place.cells,
            place.speaker,
        )

    # The whole answer

    def subject(self, cited: Sequence[Place]) -> float:
        """Share of the question's content words in the cited sources and their titles.

        1 if the question holds none but the kind of thing that it asks for; and for steps that no heading stands above, as a
        list of steps does not say itself what they are for.
        """
        words = [token for token in self._question if token.is_content]
        names_kind = self._question[:1] and self._question[0].word in _KIND_QUESTIONS
        if not words or (names_kind and words == list(self._question[1:2])):
            return 1.0  # "When?", "Which file?"
        asks_how = bool(self._question) and self._question[0].word in _HOW
        if asks_how and len(set(map(id, cited))) > 1 and all(_is_step(place) for place in cited):
            return 1.0
        numbers = {place.item.number for place in cited}
        places = [place for place in self._places if place.item.number in numbers]
        there = frozenset[str]().union(*(place.reach for place in places))
        stems = frozenset[str]().union(*(place.stems for place in places))
        found = total = 0.0
        for token in {token.base: token for token in words}.values():
            total += 1
            if token.kind == "script":
                found += max((covered_share(token.text, place) for place in places), default=0.0)
            else:
                found += holds(there, token) or not opposites_of(stem_of(token.word)).isdisjoint(stems)
        return found / total

    def passes(self, finding: _Finding, sentence: str, check: EntailmentChecker) -> bool:
        """Whether an entailment check agrees that the places carry the sentence."""
        premise = "\n".join(
            " ".join(filter(None, (place.item.hit.chunk.title, place.item.hit.chunk.heading, place.text)))
            for place in finding.places
        )
        probabilities = check.check([(premise, f"{self._question_text} {sentence}".strip())])
        return min(probabilities, default=0.0) >= ENTAILMENT_THRESHOLD


def whole_of(question: tuple[Token, ...], answer: tuple[Token, ...]) -> tuple[Token, ...]:
    """The question as a statement, with the answer where it asks: "Who bought it?", "Acme" becomes "Acme bought it"."""
    words = [token for token in question if token.kind != "pause"]
    if not words or words[0].word not in {
        "who",
        "what",
        "which",
        "whose",
        "wer",
        "welche",
        "welcher",
        "qui",
        "quién",
        "chi",
    }:
        return (*words, *answer)
    if any(token.word in {"did", "does", "do"} for token in words[1:4]):
        return (*words[1:], *answer)
    return (*answer, *words[1:])


def _without_reply(tokens: tuple[Token, ...]) -> tuple[tuple[Token, ...], int]:
    """The tokens without "Yes" or "No" before a pause, and which of them it was."""
    if not tokens or tokens[0].word not in _YES | _NO or (len(tokens) > 1 and tokens[1].kind != "pause"):
        return tokens, 0
    return tokens[2:], 1 if tokens[0].word in _YES else -1


def _reply_of(tokens: Sequence[Token]) -> int:
    """-1 if a sentence begins with "No", or if pauses part it off ("Not by itself, no."); 1 for "Yes", 0 otherwise.

    "No dogs are allowed" is no reply.
    """
    sentence = itertools.takewhile(lambda token: token.text not in _SENTENCE_ENDS, tokens)
    parts = [
        list(part)
        for is_pause, part in itertools.groupby(sentence, lambda token: token.kind == "pause")
        if not is_pause
    ]
    words = {part[0].word for part in parts if len(part) == 1 or (part is parts[0] and not part[1].is_content)}
    if not _NO.isdisjoint(words):
        return -1
    return 0 if _YES.isdisjoint(words) else 1


def _parts(tokens: tuple[Token, ...]) -> list[tuple[Token, ...]]:
    """The clauses of a sentence that can be looked up one by one; each begins with the subject of the first."""
    parts: list[list[Token]] = []
    for segment in fine_segments(tokens):
        says_something = any(t.is_content and not t.is_name and t.kind != "day" for t in segment)
        if (parts and not _says(parts[-1])) or (parts and not says_something):
            parts[-1] += segment
        else:
            parts.append(list(segment))
    if len(parts) > 1 and not _says(parts[-1]):
        last = parts.pop()
        parts[-1] += last
    if len(parts) < 2:
        return []
    subject = list(_subject_of(parts[0]))
    return [tuple(parts[0]), *(tuple(part if _has_subject(part) else [*subject, *part]) for part in parts[1:])]


def _is_step(place: Place) -> bool:
    """Whether a place is an item of a list without a heading."""
    return place.shape.startswith("row") and not place.heading and not place.text.startswith("|")


def _is_letter(token: Token) -> bool:
    """Whether a token is a capital letter, which is a name if it is all of an answer."""
    return len(token.text) == 1 and token.text.isupper()


def _is_imperative(tokens: Sequence[Token]) -> bool:
    """Whether the first word stands before an article or a number, as a verb that tells what to do."""
    return len(tokens) > 1 and (tokens[1].word in ARTICLES or tokens[1].quantity is not None)


def _has_name_and_verb(tokens: Sequence[Token]) -> bool:
    """Whether a name is followed at once by a word that may be a verb; "the Moe foundry" is a name with a noun."""
    behind = [*tokens[2:], None]
    return any(
        name.is_name
        and word.kind == "word"
        and word.is_content
        and not word.is_name
        and (_looks_like_verb(word, tokens[0]) if after is None or after.text == "." else after.text != "-")
        for (name, word), after in zip(itertools.pairwise(tokens), behind, strict=False)
    )


def _looks_like_verb(token: Token, first: Token) -> bool:
    is_past = token.word.endswith("ed") or token.word in IRREGULAR
    return is_past or (token.word.endswith("s") and first.word not in ARTICLES)


def _says(part: Sequence[Token]) -> bool:
    """Whether a clause says something that can be looked up: two content words, one of them no name."""
    content = [token for token in part if token.is_content]
    return len(content) > 1 and any(not token.is_name for token in content)


def _subject_of(part: Sequence[Token]) -> Iterator[Token]:
    """The noun phrase that a clause begins with: names, or an article and the words behind it up to the first content word."""
    begins = bool(part) and (part[0].word in ARTICLES or part[0].is_name)
    for token in part if begins else ():
        yield token
        if token.is_content and not token.is_name:
            return
        following = part[part.index(token) + 1 : part.index(token) + 2]
        if token.is_name and not (following and following[0].is_name):
            return


def _has_subject(part: Sequence[Token]) -> bool:
    first = next((token for token in part if token.word not in CONJUNCTIONS), None)
    return first is not None and (first.word in ARTICLES - {"no"} or first.is_name or first.word in ALL)
