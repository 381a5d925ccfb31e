"""What in a claim contradicts the place that it is compared with: one small check for each way in which they may differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from leanrag.grounding.amounts import (
    asks_beyond_bound,
    bounds_differ,
    counts_other_than_asked,
    counts_something_else,
    misses_value,
    names_other_number,
    names_other_version,
    runs_backwards,
    takes_former_value,
    takes_the_total,
)
from leanrag.grounding.claims import Claim, Passage, holds, is_form
from leanrag.grounding.clauses import Clause, clauses_of, complement_of, converse_of, opposites_of, stem_of
from leanrag.grounding.columns import (
    takes_another_assignment,
    takes_another_column,
    takes_another_line,
    takes_other_than_default,
)
from leanrag.grounding.lexicon import (
    ALL,
    ALLOWED,
    CLASS_WORDS,
    CLASSES,
    COPULAS,
    EXCEPTIONS,
    HEDGES,
    NEGATIONS,
    OBLIGATIONS,
    ONLY,
    PERMISSIONS,
    POSSIBILITIES,
    RECOMMENDATIONS,
    SOME,
    SYMMETRIC,
)
from leanrag.grounding.modality import (
    exchanges_two,
    joins_alternatives,
    takes_excluded,
    takes_plan_for_fact,
    takes_speaker,
    takes_substitute,
)
from leanrag.grounding.pairing import mixes_clauses, pairs_differently
from leanrag.grounding.reading import Token
from leanrag.grounding.scripts import answers_beside, differs_in_script
from leanrag.grounding.values import OPERATORS, UPPER_BOUNDS

__all__ = ["CHECKS", "contradiction"]


# ------------------------------------------------------------------------------------------------ words


def _misses_name(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A name of the claim, that the question does not hold, is not there."""
    return any(
        token.is_name and token.is_content and token.kind == "word" and token.base not in claim.asked
        and not _is_there(token, passage.all_bases)
        for token in claim.tokens
    )  # fmt: skip


def _is_there(token: Token, bases: frozenset[str]) -> bool:
    return (
        token.base in bases
        or stem_of(token.word) in bases
        or (len(token.base) > 4 and any(is_form(token.base, b) for b in bases))
    )


def _takes_from_elsewhere(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A word of the claim is not there, stands elsewhere in the sources, and another word stands there instead of it."""
    content = [token for token in claim.tokens if token.is_content]
    positions = {token.base: i for i, token in reversed(list(enumerate(passage.tokens)))}
    mine = frozenset(token.base for token in content)
    stems = frozenset(stem_of(token.word) for token in passage.tokens)
    for i, token in enumerate(content):
        if token.kind != "word" or token.base not in passage.elsewhere or holds(passage.all_bases, token):
            continue
        if not opposites_of(stem_of(token.word)).isdisjoint(stems):
            continue  # whether both say the same is for other checks
        before = positions.get(content[i - 1].base) if i else -1
        after = positions.get(content[i + 1].base) if i + 1 < len(content) else len(passage.tokens)
        if before is None or after is None or not after - before > 0:
            continue
        between = [t for t in passage.tokens[before + 1 : after] if t.is_content and t.base not in mine]
        new = [t for t in between if t.base not in claim.asked]
        if 1 <= len(between) <= 2 or 1 <= len(new) <= 2:
            return True
    return False


def _is_of_another_class(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim names a weekday, colour or the like, and the place names only others."""
    mine = claim.words
    if mine.isdisjoint(CLASS_WORDS):
        return False
    there = {token.word for token in passage.everything}
    for members in CLASSES:
        named = [set(member) for member in members if not mine.isdisjoint(member)]
        is_missing = any(there.isdisjoint(member) for member in named)
        if is_missing and any(not there.isdisjoint(member) for member in members):
            return True
    return False


def _quantifies_otherwise(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """The claim speaks of all, or of nothing else, and the place does not."""
    there = clauses_of(passage.tokens)
    for clause in clauses_of(claim.tokens):
        best = None if clause.words.isdisjoint(_ALL_OR_ONLY) else _best_clause(clause, there, weights)
        if best is None:
            continue
        if clause.words & _ALONE and not best.words & ONLY:
            return True
        if clause.words & _WHOLE and not best.words & ALL and not clause.is_negated:
            return True
        if best.words & SOME & _PARTS_OF_ALL and clause.words & ALL:
            return True
    return False


_ALL_OR_ONLY = ALL | ONLY
_ALONE = ONLY - frozenset("just alone sole allein".split())
_PARTS_OF_ALL = frozenset("some sometimes most few half partly einige manche quelques algunos".split())
_WHOLE = ALL - frozenset("any both daily whole entire whenever anyone throughout cada chaque".split())


def _drops_exception(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim speaks of all, the place of all but some."""
    mine = claim.words
    speaks_of_all = not mine.isdisjoint(ALL) and not passage.words.isdisjoint(ALL)
    return speaks_of_all and mine.isdisjoint(EXCEPTIONS) and not passage.words.isdisjoint(EXCEPTIONS)


def _operates_otherwise(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """Two operands have another operator between them there ("a + b", "a - b")."""
    mine = _operations(claim.tokens)
    there = _operations(passage.tokens) if mine else {}
    return any(operands in there and there[operands].isdisjoint(signs) for operands, signs in mine.items())


def _operations(tokens: Sequence[Token]) -> dict[tuple[str, str], set[str]]:
    """The operators between two operands."""
    found: dict[tuple[str, str], set[str]] = {}
    for i in range(1, len(tokens) - 1):
        if tokens[i].word in OPERATORS:
            sign = tokens[i].word.replace("/", "-") if tokens[i].kind == "pause" else tokens[i].word
            found.setdefault((tokens[i - 1].word, tokens[i + 1].word), set()).add(sign)
    return found


_MOST = frozenset("most least plus moins más menos".split())


def _drops_rank(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim speaks of the largest, the place of the second largest."""
    return any(
        (token.word.endswith(("est", "ste", "sten")) or token.word in _MOST)
        and not _has_rank(claim.tokens, i)
        and bool(found := [j for j, other in enumerate(passage.tokens) if other.word == token.word])
        and all(_has_rank(passage.tokens, j) for j in found)
        for i, token in enumerate(claim.tokens)
    )


def _has_rank(tokens: Sequence[Token], i: int) -> bool:
    return any(t.quantity is not None and t.quantity.dimension == "ordinal" for t in tokens[max(0, i - 2) : i])


def _obliges_otherwise(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """One says that something must be, the other that it may be."""
    mine = claim.words
    must, may = bool(mine & OBLIGATIONS), bool(mine & PERMISSIONS)
    must_there, may_there = bool(passage.words & OBLIGATIONS), bool(passage.words & PERMISSIONS)
    is_advice = not passage.words.isdisjoint(RECOMMENDATIONS) and mine.isdisjoint(RECOMMENDATIONS)
    if is_advice and mine & OBLIGATIONS - {"need", "needs"} and not must_there:
        return True
    if must == may or must_there == may_there:
        return False
    negated = any(clause.is_negated for clause in (*clauses_of(claim.tokens), *clauses_of(passage.tokens)))
    are_limits = not UPPER_BOUNDS.isdisjoint(mine) and not UPPER_BOUNDS.isdisjoint(passage.words)
    return must != must_there and not (negated or are_limits)


def _is_surer(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """The place only says that something may be so, or that somebody says so."""
    if claim.is_fragment or not any(token.is_content for token in claim.tokens):
        return False
    mine, there = clauses_of(claim.tokens), clauses_of(passage.tokens)
    if not any(clause.is_hedged for clause in there):
        return False
    if any(not clause.words.isdisjoint(POSSIBILITIES) for clause in mine):
        return False
    if any(clause.is_hedged for clause in (*mine, *clauses_of(claim.question))):
        return False
    best = _best_clause(mine[0], there, weights)
    return best is not None and best.is_hedged


def _drops_possibility(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """The place says that something may happen, the claim that it does."""
    if not claim.tokens or claim.tokens[0].word in _GENERIC or passage.words.isdisjoint(POSSIBILITIES):
        return False
    mine = frozenset(token.word for token in (*claim.tokens, *claim.question))
    if not mine.isdisjoint(POSSIBILITIES | PERMISSIONS | HEDGES | ALLOWED):
        return False
    asked = frozenset(token.base for token in claim.question if token.is_content)
    there = clauses_of(passage.tokens)
    for clause in clauses_of(claim.tokens):
        best = _best_clause(clause, there, weights)
        if best is None or best.is_negated or clause.is_negated:
            continue
        verbs = _verbs_behind(POSSIBILITIES, best.tokens)
        if verbs & clause.bases and not verbs & asked:
            return True
    return False


_GENERIC = frozenset("you one people man sie on vous se usted".split())


def _verbs_behind(words: frozenset[str], tokens: Sequence[Token]) -> frozenset[str]:
    """The content word behind each of some verbs; in German, the last one of the clause."""
    found = set[str]()
    for i, token in enumerate(tokens):
        if token.word in words and token.text.islower():
            behind = [t for t in tokens[i + 1 :] if t.is_content and t.kind == "word"]
            found.update(t.base for t in (behind[:1] + behind[-1:] if token.word.startswith("könnt") else behind[:1]))
    return frozenset(found)


# ------------------------------------------------------------------------------------------------ polarity and order


def _best_clause(claim: Clause, clauses: Sequence[Clause], weights: Mapping[str, float]) -> Clause | None:
    """The clause that shares most with `claim`; what a clause carries on from the one before it counts less."""
    best, most = None, 0.0
    for clause in clauses:
        shared = sum(weights.get(base, 1.0) for base in claim.bases & clause.bases)
        carries = 0.6 if any(t.is_content and not t.is_name and t.kind == "word" for t in clause.tokens) else 0.9
        shared += carries * sum(weights.get(base, 1.0) for base in claim.bases & (clause.carried - clause.bases))
        shared += 0.2 * len(claim.stems & _opposed_stems(clause, claim))
        if shared > most + 1e-9:
            best, most = clause, shared
    return best


def _opposed_stems(clause: Clause, claim: Clause) -> frozenset[str]:
    """Stems of the claim whose opposites the clause holds: they speak of the same."""
    if claim.opposites.isdisjoint(clause.stems):
        return frozenset()
    return frozenset(
        word for word in claim.stems if complement_of(word, clause.stems) or converse_of(word, clause.stems)
    )


def _compared(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> Iterator[tuple[Clause, Clause]]:
    """The clauses of what is said, each with the clause there that it is compared with.

    A fragment is compared with the question, where a clause speaks of what was asked; and alone, unless it is a part of a clause
    in the place's own words.
    """
    there = clauses_of(passage.tokens)
    if passage.reply:
        there = (*there, Clause(passage.context, is_negated=passage.reply < 0))
    is_quoted = claim.is_fragment and _is_verbatim(claim.tokens, passage.tokens)
    for clause in clauses_of(claim.tokens):
        best = _best_clause(clause, there, weights)
        if best is not None and not (is_quoted and best.bases - clause.bases):
            yield clause, best
    for clause in clauses_of(claim.whole) if claim.is_fragment else ():
        best = _best_clause(clause, there, weights)
        if best is not None and _speaks_of_question(claim, best):
            yield clause, best


def _is_verbatim(tokens: Sequence[Token], there: Sequence[Token]) -> bool:
    """Whether the words follow each other there as they do here."""
    words = " ".join(token.word for token in tokens if token.kind != "pause")
    return f" {words} " in f" {' '.join(token.word for token in there if token.kind != 'pause')} "


def _speaks_of_question(claim: Claim, clause: Clause) -> bool:
    """Whether a clause holds most of what was asked, so that it can be compared with the question."""
    return 3 * len(claim.asked & (clause.bases | clause.carried)) >= 2 * len(claim.asked)


def _denies(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """One clause says that something is so, the other that it is not."""
    for clause, best in _compared(claim, passage, weights):
        flips = _count_flips(clause, best, complement_of)
        if clause.absences & (best.bases - best.absences) or best.absences & (clause.bases - clause.absences):
            return True
        is_other = (
            best.is_negated and clause.tokens == claim.whole != claim.tokens and _denies_other(best, claim.question)
        )
        if (
            (clause.is_negated ^ best.is_negated ^ bool(flips % 2))
            and (clause.bases & best.bases or flips)
            and not is_other
            and not _denies_only_condition(clause, best, claim.question)
        ):
            return True
    return False


def _denies_other(clause: Clause, question: Sequence[Token]) -> bool:
    """Whether a clause denies only what the question does not speak of ("no longer crashes on empty files")."""
    denied = _denied(clause.tokens)
    asked = {stem_of(token.word) for token in question}
    return (
        bool(denied) and denied.isdisjoint(asked) and not any(complement_of(word, frozenset(asked)) for word in denied)
    )


def _denies_only_condition(clause: Clause, place: Clause, question: Sequence[Token]) -> bool:
    """Whether a place denies only a condition ("if it is not found"), which the clause says nothing of or the question has too."""
    if clause.is_negated:
        return False
    denial = next((i for i, token in enumerate(place.tokens) if token.word in NEGATIONS), 0)
    start = next((i for i, token in enumerate(place.tokens[:denial]) if token.word in _SUBORDINATE), None)
    if start is None:
        return False
    condition = {token.base for token in place.tokens[start:] if token.is_content}
    return condition.isdisjoint(clause.bases) or _denied(place.tokens) <= _denied(question)


_SUBORDINATE = frozenset(
    "if when where because since before until while although wenn falls weil bevor bis obwohl".split()
)


def _denies_what_was_asked(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim only denies the question, and the place denies something else ("does not work offline", "does not touch it")."""
    if passage.reply or not {token.base for token in claim.tokens if token.is_content} <= claim.asked:
        return False
    denied = _denied(claim.tokens)
    said = frozenset(stem_of(token.word) for token in passage.tokens)
    if not denied or any(complement_of(word, said) for word in denied):
        return False
    is_denial = any(clause.is_negated or clause.absences for clause in clauses_of(passage.tokens))
    return denied.isdisjoint(said) if _denied(passage.tokens) else not is_denial


def _denied(tokens: Sequence[Token]) -> frozenset[str]:
    """The stems of the first content word behind each negation."""
    found = set[str]()
    for i, token in enumerate(tokens):
        if token.word in NEGATIONS:
            found.update(stem_of(word.word) for word in [t for t in tokens[i + 1 :] if t.is_content][:1])
    return frozenset(found)


def _count_flips(clause: Clause, place: Clause, is_opposite: Callable[[str, frozenset[str]], bool]) -> int:
    """Words of the clause whose opposite the place holds instead of them."""
    if clause.opposites.isdisjoint(place.stems) and place.opposites.isdisjoint(clause.stems):
        return 0
    return sum(
        is_opposite(word, place.stems) or any(is_opposite(other, frozenset({word})) for other in place.stems)
        for word in clause.stems - place.stems
        if not is_opposite(word, clause.stems)
    )


def _equates_otherwise(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """Both say what somebody is, and of what the question asked about the place says nothing ("Ada is the mayor", "the cook")."""
    for clause, best in _compared(claim, passage, weights) if not claim.is_fragment else ():
        if not _is_equation(clause) or not _is_equation(best) or _count_flips(clause, best, complement_of):
            continue
        names = {token.base for token in clause.tokens if token.is_name}
        mine, theirs = clause.bases - best.bases, best.bases - clause.bases
        if mine and theirs and clause.bases & best.bases <= names and mine <= claim.asked - passage.all_bases:
            return True
    return False


def _is_of_another_code(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """What the question asks of one code, the place says of another ("What does XZ stand for?", "LZMA stands for")."""
    asked = {token.base for token in claim.question if token.is_name and token.is_content}
    codes = {token.base for token in claim.question if token.is_name and _is_code(token)}
    if not codes or not asked.isdisjoint(token.base for token in passage.tokens):
        return False
    asked_stems = {stem_of(token.word) for token in claim.question if token.is_content and token.base not in codes}
    for clause in clauses_of(claim.whole):
        subjects = {base for base, role in clause.roles.items() if role == "subject"} & codes
        best = _best_clause(clause, clauses_of(passage.tokens), weights) if subjects else None
        if best is not None and not asked_stems.isdisjoint(map(stem_of, (token.word for token in best.tokens))):
            others = {token.base for token in best.tokens if token.is_name and _is_code(token)}
            if any(best.roles.get(base) == "subject" for base in others):
                return True
    return False


def _is_code(token: Token) -> bool:
    """Whether a name is written in capitals and digits."""
    return len(token.text) > 1 and token.text.isupper()


def _count_turned(clause: Clause, place: Clause) -> int:
    """Words that stand behind the opposite preposition there ("before the war", "after the war")."""
    return sum(
        converse_of(preposition, frozenset({place.prepositions[base]}))
        for base, preposition in clause.prepositions.items()
        if base in place.prepositions
    )


def _turns_around(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """Who does it and whom it is done to are exchanged, or the comparison goes the other way, but not both."""
    said = frozenset(token.base for token in claim.tokens)
    for clause, best in _compared(claim, passage, weights):
        may_swap = not (claim.is_fragment and not claim.asks_for_name)
        may_swap = may_swap and SYMMETRIC.isdisjoint(clause.words | best.words)
        swapped = may_swap and _are_exchanged(*_parts_of(clause, best), said)
        if (_count_flips(clause, best, converse_of) or _count_turned(clause, best)) % 2:
            if not swapped and not _have_other_subjects(clause, best):
                return True
        elif swapped:
            return True
    return False


def _parts_of(clause: Clause, place: Clause) -> tuple[dict[str, str], dict[str, str]]:
    """The parts that the words of two clauses play, as far as they say who does what to whom.

    Of what is the same ("The sender is Ada"), both sides play the same part; there, each preposition counts.
    """
    if not _is_equation(clause):
        return {base: role for base, role in clause.roles.items() if role in _PARTS}, place.roles
    if not _is_equation(place):
        return {}, {}
    equal = [
        {base: "side" if role in {"subject", "object"} else role for base, role in each.roles.items()}
        for each in (clause, place)
    ]
    return equal[0], equal[1]


def _is_equation(clause: Clause) -> bool:
    """Whether a clause says what or where something is."""
    return not clause.is_passive and not clause.words.isdisjoint(COPULAS | _LIES) and "than" not in clause.words


_LIES = frozenset("lies lie lay stands stand stood sits sit sat liegt lag steht stand".split())
_PARTS = frozenset({"subject", "object", "relation", "from", "to", "von", "nach", "de", "à", "a"})


def _are_exchanged(claim: Mapping[str, str], place: Mapping[str, str], said: frozenset[str]) -> bool:
    """Whether two words, one of them from the answer, play each other's part."""
    shared = [base for base in claim if base in place and claim[base] not in _LOOSE_PARTS]
    return any(
        claim[a] != claim[b] and claim[a] == place[b] and claim[b] == place[a] and (a in said or b in said)
        for i, a in enumerate(shared)
        for b in shared[i + 1 :]
    )


_LOOSE_PARTS = frozenset("with mit avec con com between zwischen entre and gegen against".split())
"""Prepositions that say little about who does what to whom."""


def _have_other_subjects(clause: Clause, place: Clause) -> bool:
    mine = {base for base, role in clause.roles.items() if role == "subject"}
    theirs = {base for base, role in place.roles.items() if role == "subject"}
    return bool(mine and theirs) and mine.isdisjoint(theirs) and bool(mine & set(place.roles))


# ------------------------------------------------------------------------------------------------ all together


def _differs_in_script(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """Text without spaces has another polarity, count or bound, or holds an opposite, or answers something else."""
    if claim.is_fragment and answers_beside(claim.tokens, claim.question, passage.tokens):
        return True
    return differs_in_script(claim.tokens, passage.tokens, is_fragment=claim.is_fragment)


CHECKS: dict[str, Callable[[Claim, Passage, Mapping[str, float]], bool]] = {
    "value": misses_value,
    "version": names_other_version,
    "number": names_other_number,
    "bound": bounds_differ,
    "asked bound": asks_beyond_bound,
    "former": takes_former_value,
    "count": counts_something_else,
    "asked count": counts_other_than_asked,
    "total": takes_the_total,
    "change": runs_backwards,
    "column": takes_another_column,
    "pairing": pairs_differently,
    "clauses": mixes_clauses,
    "name": _misses_name,
    "elsewhere": _takes_from_elsewhere,
    "class": _is_of_another_class,
    "quantifier": _quantifies_otherwise,
    "operator": _operates_otherwise,
    "setting": takes_another_line,
    "assignment": takes_another_assignment,
    "default": takes_other_than_default,
    "exception": _drops_exception,
    "rank": _drops_rank,
    "obligation": _obliges_otherwise,
    "hedge": _is_surer,
    "plan": takes_plan_for_fact,
    "speaker": takes_speaker,
    "excluded": takes_excluded,
    "substitute": takes_substitute,
    "alternative": joins_alternatives,
    "exchange": exchanges_two,
    "possibility": _drops_possibility,
    "polarity": _denies,
    "denial": _denies_what_was_asked,
    "equation": _equates_otherwise,
    "order": _turns_around,
    "code": _is_of_another_code,
    "script": _differs_in_script,
}
"""The ways in which a claim may contradict a place, and the check for each."""


def contradiction(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> str | None:
    """Return the name of the first check that finds a contradiction, None if none does.

    Args:
        claim: What the answer says.
        passage: The place.
        weights: How much each word tells, by its base; a word that is not there tells 1.
    """
    return next((name for name, check in CHECKS.items() if check(claim, passage, weights)), None)
