"""Whether a claim says that something is done, must be or goes together, and a passage only that it is meant to, should or may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leanrag.grounding.claims import Claim, Passage
from leanrag.grounding.clauses import CONJUNCTIONS, segments_of
from leanrag.grounding.lexicon import (
    ARTICLES,
    AUXILIARIES,
    COPULAS,
    INTENTIONS,
    IRREGULAR,
    NEGATIONS,
    PERMISSIONS,
    POSSIBILITIES,
    PREPOSITIONS,
    SYMMETRIC,
)
from leanrag.grounding.reading import Token, base_of

__all__ = [
    "exchanges_two",
    "joins_alternatives",
    "takes_plan_for_fact",
    "takes_speaker",
    "takes_excluded",
    "takes_substitute",
]

_OR = frozenset("or oder ou o oppure of eller или".split())
_AND = frozenset("and und et y e en och og и".split())
_FUTURE = frozenset({"will", "shall"})
_FIRST_PERSONS = frozenset(
    """i me my mine myself we us our ours ich mich mir mein meine meinen meiner wir uns unser unsere je j me moi mon ma mes nous
    notre nos yo mi mis nosotros nosotras nuestro io mio noi ik mij mijn wij ons eu meu minha nós jag mig vi jeg я мы мне""".split()
)
_SAYINGS = frozenset(
    """say says said tell tells told ask asks asked report reports reported write writes wrote written mention mentioned suggest
    suggests suggested announce announced answer answered claim claims claimed propose proposed warn warned post posted reply
    replied sagt sagte schrieb schreibt fragte fragt meldete meldet dit écrit demande dijo escribió""".split()
)
_NOT_PAST = frozenset("is are be being been will shall to has have".split())


def joins_alternatives(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim says "A and B" where the passage says "A or B"; of what is allowed or denied both say the same."""
    words = {token.word for token in claim.tokens}
    if claim.is_fragment or not words.isdisjoint(POSSIBILITIES | PERMISSIONS | NEGATIONS):
        return False
    if not passage.words.isdisjoint(NEGATIONS) or passage.words.isdisjoint(_OR):
        return False
    return not _joined(claim.tokens, _AND).isdisjoint(_joined(passage.tokens, _OR) - _joined(passage.tokens, _AND))


def _joined(tokens: Sequence[Token], words: frozenset[str]) -> set[frozenset[str]]:
    """The content words next to each conjunction, on its two sides."""
    found: set[frozenset[str]] = set()
    for i, token in enumerate(tokens):
        if token.word in words and token.kind == "word" and i:
            before = [t.base for t in tokens[max(0, i - 3) : i] if t.is_content]
            after = [t.base for t in tokens[i + 1 : i + 4] if t.is_content]
            if before and after:
                found.add(frozenset((before[-1], after[0])))
    return found


def takes_plan_for_fact(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim says that something is or was done, the passage that somebody means to, tried to, used to or will do it."""
    if passage.words.isdisjoint(INTENTIONS | _FUTURE):
        return False
    said = {token.word for token in (*claim.tokens, *claim.question)}
    if not said.isdisjoint(INTENTIONS):
        return False
    meant, future = _planned(passage.tokens), _coming(passage.tokens)
    done = {t.base for i, t in enumerate(passage.tokens) if t.is_content and i not in meant | future}
    planned = {passage.tokens[i].base for i in meant}
    coming = {passage.tokens[i].base for i in future}
    for i, token in enumerate(claim.whole):
        before = {t.word for t in claim.whole[max(0, i - 2) : i]}
        if token.base in done or not token.is_content or token.is_name or "to" in before or before & _FUTURE:
            continue
        is_past = (token.word.endswith("ed") or token.word in IRREGULAR) and before.isdisjoint(_NOT_PAST)
        if token.base in planned or (token.base in coming and is_past):
            return True
    return False


def _planned(tokens: Sequence[Token]) -> set[int]:
    """Where the verbs behind "plans to" and the like stand; "is used to" names a purpose."""
    found: set[int] = set()
    for i, token in enumerate(tokens[:-1]):
        if token.word not in INTENTIONS or tokens[i + 1].word != "to":
            continue
        before = tokens[i - 1].word if i else ""
        if (token.word == "used" and before in AUXILIARIES) or (
            token.word == "going" and before not in {"was", "were"}
        ):
            continue
        found.update(_next_content(tokens, i + 2))
    return found


def _coming(tokens: Sequence[Token]) -> set[int]:
    """Where the verbs behind "will" stand."""
    found: set[int] = set()
    for i, token in enumerate(tokens):
        if token.word in _FUTURE and token.text.islower():
            found.update(_next_content(tokens, i + 1))
    return found


def _next_content(tokens: Sequence[Token], start: int) -> list[int]:
    """Where the next word with content stands, if it is near."""
    return [i for i in range(start, min(start + 3, len(tokens))) if tokens[i].is_content][:1]


def takes_speaker(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim says of a speaker what he or she only says: the turn is not about "me", and nobody asked who says it."""
    words = {token.word for token in (*claim.tokens, *claim.question)}
    if not passage.speaker or not words.isdisjoint(_SAYINGS) or _speaks_of_self(claim, passage):
        return False
    told = {t.base for t in claim.tokens if t.is_content and t.kind == "word" and t.base not in claim.asked}
    said = {token.base for token in passage.tokens if token.is_content and token.base not in passage.speaker}
    return not told.isdisjoint(passage.speaker) and told.isdisjoint(said)


def _speaks_of_self(claim: Claim, passage: Passage) -> bool:
    """Whether "I" or "my" stands in a part of the turn that has most of what was asked; if none has any, without a denial."""
    shares = [len({token.base for token in part} & claim.asked) for part in passage.segments]
    if not any(shares) and _refuses(passage.tokens):
        return False
    return any(
        share == max(shares) and any(token.word in _FIRST_PERSONS for token in part)
        for share, part in zip(shares, passage.segments, strict=True)
    )


def _refuses(tokens: Sequence[Token]) -> bool:
    """Whether a speaker says "I can not", "ich nicht" or the like."""
    return any(
        token.word in _FIRST_PERSONS and any(other.word in NEGATIONS for other in tokens[i + 1 : i + 3])
        for i, token in enumerate(tokens)
    )


def takes_excluded(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The answer stands only behind a negation that begins its part of the sentence ("with soap, never with acid")."""
    said = (*claim.tokens, *claim.question)
    if not claim.is_fragment or any(token.word in NEGATIONS for token in said):
        return False
    told = {token.base for token in claim.tokens if token.is_content and token.base not in claim.asked}
    parts: list[list[Token]] = []
    for part, sign in segments_of(passage.tokens):
        if sign == "(" and parts:  # a note belongs to what stands before it
            parts[-1] = parts[-1] + part
        else:
            parts.append(part)
    parts = [part for part in parts if any(token.base in told for token in part)]
    return bool(parts) and all(_excludes(part, claim.asked) for part in parts)


def _excludes(part: Sequence[Token], asked: frozenset[str]) -> bool:
    """Whether a part of a sentence begins with a negation; the exception that was asked about does not exclude the answer."""
    words = [token.word for token in part if token.word not in CONJUNCTIONS]
    first = next((token.base for token in part if token.is_content), "")
    excludes = (
        len(words) > 1 and words[0] in NEGATIONS and words[1] in PREPOSITIONS | ARTICLES and words[1] not in _TIMES
    )
    return excludes and first not in asked


_TIMES = frozenset("before after until till vor nach bis".split())


_OUTDATED = frozenset(
    map(base_of, "deprecated obsolete removed dropped superseded outdated discontinued retired veraltet".split())
)
_FAVOUR = frozenset({"favour", "favor"})


def takes_substitute(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim says of what is to be used instead that it is out of use ("Use B instead", "in favour of B")."""
    if not claim.is_fragment or claim.asked.isdisjoint(_OUTDATED):
        return False
    told = {token.base for token in claim.tokens if token.is_content and token.base not in claim.asked}
    words = [token.word for token in passage.tokens]
    there = {token.base for token in passage.tokens if token.is_content}
    starts = [i for i, word in enumerate(words) if word in _FAVOUR]
    if starts:
        return bool(told) and told <= {token.base for token in passage.tokens[starts[0] :]}
    is_instead = "instead" in words and "of" not in words[words.index("instead") : words.index("instead") + 2]
    return is_instead and bool(told) and told <= there and _OUTDATED.isdisjoint(there)


_BETWEEN = CONJUNCTIONS | ARTICLES | COPULAS | _OR | _AND
_MUTUAL = SYMMETRIC - {"with"}


def exchanges_two(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim has the words of the passage, but two of them change places ("A depends on B", "B depends on A").

    Members of a list, and what is the same or is done together, may change places.
    """
    mine = [token for token in claim.tokens if token.kind != "pause" or token.text == ":"]
    there = [token for token in passage.tokens if token.kind != "pause" or token.text == ":"]
    if len(mine) < 3 or any(token.word in _MUTUAL for token in mine):
        return False
    is_found = False
    for start in range(len(there) - len(mine) + 1):
        differing: list[int] = []
        for i, token in enumerate(mine):
            if token.base != there[start + i].base or (token.word != there[start + i].word and not token.is_content):
                differing.append(i)
                if len(differing) > 2:
                    break
        if not differing:
            return False
        if len(differing) == 2:
            is_found |= _are_exchanged(mine, there[start : start + len(mine)], *differing)
    return is_found


def _are_exchanged(mine: Sequence[Token], there: Sequence[Token], i: int, j: int) -> bool:
    if mine[i].word != there[j].word or mine[j].word != there[i].word:
        return False
    between = {token.word for token in mine[i + 1 : j]}
    return not (between <= _BETWEEN or (i == 0 and "with" in between))
