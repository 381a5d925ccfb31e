"""Checks a GBNF grammar in pure Python, before llama.cpp reads it.

llama.cpp trusts a grammar: parentheses use its C stack, `{3,1}` fills the memory, some left recursions pass its check and never
end, and ambiguity doubles its work with each character. So llama.cpp gets only grammars that were checked here.

Facts about llama.cpp are from its `src/llama-grammar.cpp`, as in llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import graphlib
import re
import string
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

from leanrag.errors import ConfigurationError, GenerationError

__all__ = ["Readings", "Rules", "check_gbnf", "read_gbnf"]

MAX_CHARS = 200_000  # of a grammar
MAX_RULES = 20_000  # including the rules that llama.cpp makes from groups and repetitions
MAX_ELEMENTS = 200_000  # characters, ranges, references and alternatives, after repetitions are written out
MAX_NESTING = 64  # nested parentheses: llama.cpp recurses on them
MAX_REPEAT = 2_000  # MAX_REPETITION_THRESHOLD: llama.cpp ignores a larger upper bound
MAX_LEFT_DEPTH = 1_000  # rules that begin with rules: llama.cpp recurses on them
MAX_LEFT_PATHS = 1_000_000  # llama.cpp's search for left recursion walks every path through rules that begin with rules
MAX_READINGS = 1_000  # stacks: the ways to read the text so far; llama.cpp has no limit
MAX_STEPS = 10_000  # references to follow from a character to the next
MAX_WORK = 2_000_000  # characters to read, once for each way, to test all tokens after a text: about a second
WORK_PER_TEXT = 100  # and this many more characters for each token


class _Chars(NamedTuple):
    """A set of characters: the code points in `ranges` (inclusive), or all other code points if `is_negated`."""

    ranges: tuple[tuple[int, int], ...]
    is_negated: bool = False


_Item = int | _Chars  # a reference to a rule by number, or a character
_Alternative = tuple[_Item, ...]


class Rules(NamedTuple):
    """A grammar in the form of llama.cpp, where each group and each repetition is a rule too.

    Attributes:
        alternatives: The alternatives of each rule, by its number.
        root: Number of the rule `root`.
    """

    alternatives: list[list[_Alternative]]
    root: int


def check_gbnf(text: str) -> None:
    """Check that llama.cpp can read a grammar and work with it safely.

    The dialect is that of llama.cpp without token references (`<[12]>`), and stricter: a rule must be defined once, must not begin
    with itself and must be able to end. A repeated item must not be empty. The upper-case names of this module are the limits.

    Raises:
        ConfigurationError: The grammar is wrong; the message has the line, the column and what was expected there.
    """
    read_gbnf(text)


def read_gbnf(text: str) -> Rules:
    """Check a grammar as `check_gbnf` does, and return its rules."""
    parser = _Parser(text)
    rules = parser.parse()
    alternatives = rules.alternatives
    ending = _derivable(alternatives, with_characters=True)
    for rule in range(len(alternatives)):
        if rule not in ending:
            parser.fail(f"a way for {parser.describe(rule)} to end", parser.positions[rule])
    empty = _derivable(alternatives, with_characters=False)
    for items, position in parser.repeated:  # in (x?){200} llama.cpp tries 200-over-n ways to read n characters
        if all(item in empty for item in items):
            parser.fail("something to repeat that cannot be empty", position)
    first_rules = [list(_leftmost(options, empty)) for options in alternatives]
    try:
        graph = {rule: set(references) for rule, references in enumerate(first_rules)}
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        rule = min(error.args[1])
        parser.fail(f"a character before {parser.describe(rule)} comes again (left recursion)", parser.positions[rule])
    depth, paths = [1] * len(first_rules), [1] * len(first_rules)
    for rule in order:
        for reference in first_rules[rule]:
            depth[rule] = max(depth[rule], depth[reference] + 1)
            paths[rule] += paths[reference]
        if depth[rule] > MAX_LEFT_DEPTH or paths[rule] > MAX_LEFT_PATHS:
            parser.fail(f"fewer rules that begin with rules in {parser.describe(rule)}", parser.positions[rule])
    if sum(paths) > MAX_LEFT_PATHS:
        parser.fail(f"at most {MAX_LEFT_PATHS:,} paths through rules that begin with rules", 0)
    try:
        Readings(rules)
    except GenerationError as error:
        raise ConfigurationError(str(error)) from error
    return rules


def _derivable(alternatives: list[list[_Alternative]], *, with_characters: bool) -> set[int]:
    """Return the rules that can match a text: any text if `with_characters`, else the empty text."""
    users: dict[int, list[list[int]]] = defaultdict(list)
    ready: list[int] = []
    for rule, options in enumerate(alternatives):
        for items in options:
            if with_characters or all(isinstance(item, int) for item in items):
                references = [item for item in items if isinstance(item, int)]
                entry = [rule, len(references)]  # the number of references not yet found
                for reference in references:
                    users[reference].append(entry)
                if not references:
                    ready.append(rule)
    found: set[int] = set()
    while ready:
        rule = ready.pop()
        if rule not in found:
            found.add(rule)
            for entry in users[rule]:
                entry[1] -= 1
                if entry[1] == 0:
                    ready.append(entry[0])
    return found


def _leftmost(options: list[_Alternative], empty: set[int]) -> Iterator[int]:
    """Yield the rules with which a text of these alternatives can begin."""
    for items in options:
        for item in items:
            if isinstance(item, _Chars):
                break
            yield item
            if item not in empty:
                break


_END = "\0"
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n\0]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n\0]*)*")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_BOUNDS = re.compile(r"\{[ \t]*([0-9]+)[ \t]*(?:(,)[ \t]*([0-9]*)[ \t]*)?\}")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX_SIZES = {"x": 2, "u": 4, "U": 8}


class _Parser:
    """Parses GBNF as llama.cpp does, and makes the same rules in the same order."""

    def __init__(self, text: object) -> None:
        if not isinstance(text, str):
            raise ConfigurationError(f"a grammar must be a string, got {text!r:.80}")
        if len(text) > MAX_CHARS:
            raise ConfigurationError(f"a grammar must have at most {MAX_CHARS:,} characters, got {len(text):,}")
        self._text, self._position, self._owner = text, 0, ""
        bad = re.search("[\0\ud800-\udfff]", text)
        if bad:
            self.fail("text without NUL and surrogates", bad.start())
        self._text += _END
        self._numbers: dict[str, int] = {}  # of named rules
        self._uses: dict[int, int] = {}  # position of the first reference to each rule
        self._rules: dict[int, list[_Alternative]] = {}
        self._elements = 0
        self.positions: list[int] = []  # of each rule, for messages
        self.repeated: list[tuple[list[_Item], int]] = []  # items that are repeated more than once, and their positions
        self._owners: list[str] = []

    def parse(self) -> Rules:
        self._skip(_BLANK_LINES)
        while self._peek() != _END:
            self._rule()
        for name, number in self._numbers.items():
            if number not in self._rules:
                self.fail(f"a rule `{name}` to be defined", self._uses[number])
        if "root" not in self._numbers:
            self.fail("a rule `root`", 0)
        return Rules([self._rules[number] for number in range(len(self._rules))], self._numbers["root"])

    def describe(self, rule: int) -> str:
        return f"rule `{self._owners[rule]:.60}`"

    def fail(self, expected: str, position: int | None = None) -> NoReturn:
        position = self._position if position is None else position
        line = self._text.count("\n", 0, position) + 1
        column = position - self._text.rfind("\n", 0, position)
        found = self._text[position : position + 20]
        found = repr(found.rstrip(_END)) if found.rstrip(_END) else "the end"
        raise ConfigurationError(f"grammar, line {line}, column {column}: expected {expected}, found {found}")

    def _peek(self) -> str:
        return self._text[self._position]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._position)
        assert match is not None
        self._position = match.end()

    def _expect(self, token: str) -> None:
        if not self._text.startswith(token, self._position):
            self.fail(f"`{token}`")
        self._position += len(token)

    def _new_rule(self, owner: str, position: int) -> int:
        if len(self.positions) == MAX_RULES:
            self.fail(f"at most {MAX_RULES:,} rules, groups and optional repetitions", position)
        self.positions.append(position)
        self._owners.append(owner)
        return len(self.positions) - 1

    def _count(self, elements: int, position: int) -> None:
        self._elements += elements
        if self._elements > MAX_ELEMENTS:
            self.fail(f"a grammar of at most {MAX_ELEMENTS:,} elements once repetitions are written out", position)

    def _named(self) -> tuple[str, int]:
        match = _NAME.match(self._text, self._position)
        if not match:
            self.fail("the name of a rule (letters, digits, -)")
        name = match.group()
        if name not in self._numbers:
            self._numbers[name] = self._new_rule(name, self._position)
        self._position = match.end()
        return name, self._numbers[name]

    def _rule(self) -> None:
        start = self._position
        name, number = self._named()
        if number in self._rules:
            self.fail(f"`{name}` to be defined once", start)
        self.positions[number] = start
        self._skip(_BLANK)
        self._expect("::=")
        self._skip(_BLANK_LINES)
        self._owner = name
        self._rules[number] = self._alternatives(0)
        if self._peek() not in ("\r", "\n", _END):
            self.fail("a literal, a class, a name, a group, `|`, a repetition or the end of the line")
        self._skip(_BLANK_LINES)

    def _alternatives(self, depth: int) -> list[_Alternative]:
        found = [self._sequence(depth)]
        while self._peek() == "|":
            self._position += 1
            self._count(1, self._position)
            self._skip(_BLANK_LINES)
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> _Alternative:
        items: list[_Item] = []
        last: list[_Item] = []  # the items that a repetition would repeat
        weight = 1  # number of rules of the last group, as llama.cpp counts them
        blank = _BLANK_LINES if depth else _BLANK
        while True:
            start, before, character = self._position, len(self.positions), self._peek()
            if character in "*+?{":
                if not last:
                    self.fail("a non-empty item before the repetition, and only one repetition for each item")
                items[len(items) - len(last) :] = self._repeated(last, weight, start)
                last = []
            else:
                found = self._item(depth)
                if found is None:
                    return tuple(items)
                last = found
                self._count(sum(_size(item) for item in last), start)
                items += last
                weight = max(1, len(self.positions) - before) if character == "(" else 1
            self._skip(blank)

    def _item(self, depth: int) -> list[_Item] | None:
        """Read a literal, a class, a name or a group, and return its items; None if something else follows."""
        start, character = self._position, self._peek()
        if character == '"':
            return list(self._literal())
        if character == "[":
            return [self._class()]
        if character == ".":
            self._position += 1
            return [_Chars(((0, 0x10FFFF),))]
        if character == "(":
            return [self._group(depth)]
        if character in "<!":
            self.fail("no token references; write the text of a token as a literal")
        if not _NAME.match(character):
            return None
        number = self._named()[1]
        self._uses.setdefault(number, start)
        return [number]

    def _group(self, depth: int) -> int:
        if depth == MAX_NESTING:
            self.fail(f"at most {MAX_NESTING} groups within each other")
        number = self._new_rule(self._owner, self._position)
        self._position += 1
        self._skip(_BLANK_LINES)
        self._rules[number] = self._alternatives(depth + 1)
        self._expect(")")
        return number

    def _literal(self) -> Iterator[_Chars]:
        self._position += 1
        while self._peek() != '"':
            point = self._character('a closing `"`')
            yield _Chars(((point, point),))
        self._position += 1

    def _class(self) -> _Chars:
        start = self._position
        self._position += 1
        is_negated = self._peek() == "^"
        self._position += is_negated
        ranges = []
        while self._peek() != "]":
            low = high = self._character("a closing `]`")
            if self._peek() == "-" and self._text[self._position + 1] != "]":
                self._position += 1
                high = self._character("the end of a range")
            if low > high:
                self.fail("a range that ascends", start)
            ranges.append((low, high))
        if not ranges:
            self.fail("a character in the class", start)
        self._position += 1
        return _Chars(tuple(ranges), is_negated)

    def _character(self, otherwise: str) -> int:
        character = self._peek()
        if character == _END:
            self.fail(otherwise)
        if character != "\\":
            self._position += 1
            return ord(character)
        escape = self._text[self._position + 1]
        size = _HEX_SIZES.get(escape)
        if size is None:
            if escape not in _ESCAPES:
                self.fail(r"an escape: \n \r \t \\ \" \[ \] \- \x41 \u0041 \U00000041")
            self._position += 2
            return ord(_ESCAPES[escape])
        digits = self._text[self._position + 2 : self._position + 2 + size]
        if len(digits) < size or not set(digits) <= set(string.hexdigits):
            self.fail(f"{size} hexadecimal digits after \\{escape}")
        point = int(digits, 16)
        if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            self.fail("a Unicode code point that is not a surrogate")
        self._position += 2 + size
        return point

    def _repeated(self, items: list[_Item], weight: int, start: int) -> list[_Item]:
        """Return the items that replace a repetition, as llama.cpp rewrites it.

        x{2,4} is x x y with y ::= x z | and z ::= x | ; x{2,} is x x y with y ::= x y | .
        """
        least, most = self._bounds()
        if most is not None and (most < least or most == 0):
            self.fail("an upper bound that is at least 1 and at least the lower bound", start)
        if weight * (most or least or 1) > MAX_REPEAT or least > MAX_REPEAT:
            self.fail(f"at most {MAX_REPEAT:,} repetitions, times the rules within the group", start)
        if most != 1:
            self.repeated.append((items, start))
        optional = 1 if most is None else most - least
        self._count(sum(_size(item) for item in items) * (least + optional) + 2 * optional, start)
        tail: list[_Item] = []
        for _ in range(optional):
            number = self._new_rule(self._owner, start)
            self._rules[number] = [(*items, *([number] if most is None else tail)), ()]
            tail = [number]
        return items * least + tail

    def _bounds(self) -> tuple[int, int | None]:
        character = self._peek()
        if character in "*+?":
            self._position += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[character]
        match = _BOUNDS.match(self._text, self._position)
        if not match:
            self.fail("a repetition {m}, {m,} or {m,n}")
        low, comma, high = match.groups()
        if max(len(low), len(high or "")) > 9:
            self.fail(f"bounds of at most {MAX_REPEAT:,}")
        self._position = match.end()
        return int(low), int(low) if not comma else int(high) if high else None


def _size(item: _Item) -> int:
    return 1 if isinstance(item, int) else 2 * len(item.ranges)


class Readings:
    """All ways to read the text so far, which llama.cpp stores as stacks; here their number has a limit.

    With `{"child": A} | {"child": B}`, where A and B have such a child again, llama.cpp doubles its stacks with each level until
    the memory is full. Here equal stacks have the same number, so that a character takes microseconds.
    """

    def __init__(self, rules: Rules) -> None:
        self._options: list[list[int]] = []  # of each rule, indices of its alternatives in `_items`
        self._items: list[_Alternative] = []
        for alternatives in rules.alternatives:
            self._options.append(list(range(len(self._items), len(self._items) + len(alternatives))))
            self._items += alternatives
        self._cells: list[tuple[int, int, int]] = [(0, 0, 0)]  # of each stack: alternative, index in it, stack below
        self._numbers: dict[tuple[int, int, int], int] = {}
        self._stacks: set[int] = set()  # 0 is the empty stack: the text may end
        self._checked: set[frozenset[int]] = set()  # sets of stacks after which testing all tokens is little work
        for option in self._options[rules.root]:
            self._stacks |= self._advance(self._push(option, 0, 0))
        if len(self._stacks) > MAX_READINGS:
            raise _too_ambiguous()

    def follow(self, text: str) -> None:
        """Read the characters of `text`.

        Raises:
            GenerationError: There are more than `MAX_READINGS` ways to read the text so far.
        """
        for character in text:
            stacks: set[int] = set()
            for stack in self._stacks:
                stacks |= self._after(stack, character)
                if len(stacks) > MAX_READINGS:
                    raise _too_ambiguous()
            self._stacks = stacks

    def check_work(self, texts: Sequence[str], shared: Sequence[int]) -> None:
        """Check that llama.cpp can test quickly whether each of `texts` may follow the text so far.

        Here equal stacks have the same number. llama.cpp does not find equal stacks within a text: with `(" " | " "){1,40} "x"`, a
        text of forty spaces has 2 ** 40 readings, and llama.cpp follows each until a reading reaches the end of the text.

        Args:
            texts: Texts in alphabetical order.
            shared: Number of characters that each text has in common with the text before it.

        Raises:
            GenerationError: The test could take more than `MAX_WORK` steps plus `WORK_PER_TEXT` for each text.
        """
        stacks = frozenset(self._stacks)
        if stacks in self._checked:
            return
        walk = _Walk(self._after)
        limit, work = MAX_WORK + WORK_PER_TEXT * len(texts), 0
        path = [(walk.state(dict.fromkeys(stacks, 1)), 0)]  # after each character: the state, and the steps on all ways
        is_refused = False
        for text, same in zip(texts, shared, strict=True):
            if not (is_refused and same >= len(path)):  # else it begins with the refused beginning of the last text
                del path[same + 1 :]
                is_refused = False
                for character in text[same:]:
                    state, steps = path[-1]
                    following, ways = walk.step(state, character)
                    if not ways:
                        is_refused = True
                        break
                    path.append((following, steps + ways))
            steps = path[-1][1]
            if not is_refused and steps > WORK_PER_TEXT:
                steps = walk.steps_to_accept(text, [state for state, _ in path])
            work += steps
            if work > limit:
                raise GenerationError(
                    f"the grammar can be read in so many ways that llama.cpp could take more than {limit:,} steps to find out "
                    "which tokens may come next. Make its alternatives begin differently"
                )
        if len(texts) > 1:
            self._checked.add(stacks)

    def _after(self, stack: int, character: str) -> set[int]:
        """Return the stacks that follow `stack` after `character`; none if the text is complete."""
        if not stack:
            return set()
        option, index, below = self._cells[stack]
        item = self._items[option][index]
        assert isinstance(item, _Chars)
        point = ord(character)
        if any(low <= point <= high for low, high in item.ranges) == item.is_negated:
            return set()
        return self._advance(self._push(option, index + 1, below))

    def _push(self, option: int, index: int, below: int) -> int:
        if index == len(self._items[option]):
            return below
        cell = (option, index, below)
        number = self._numbers.setdefault(cell, len(self._cells))
        if number == len(self._cells):
            self._cells.append(cell)
        return number

    def _advance(self, stack: int) -> set[int]:
        """Follow the references on top of `stack`; return the resulting stacks, which are empty or have a character on top."""
        found, seen, waiting = set(), set(), [stack]
        while waiting:
            stack = waiting.pop()
            if stack in seen:
                continue
            seen.add(stack)
            option, index, below = self._cells[stack]
            item = self._items[option][index] if stack else None
            if isinstance(item, int):
                rest = self._push(option, index + 1, below)
                waiting += [self._push(choice, 0, rest) for choice in self._options[item]]
            else:
                found.add(stack)
            if len(seen) > MAX_STEPS or len(found) > MAX_READINGS:
                raise _too_ambiguous()
        return found


class _Walk:
    """Follows many readings at once: a state has stacks with the number of readings of each, and equal states share a number."""

    def __init__(self, after: Callable[[int, str], set[int]]) -> None:
        self._after = after
        self._states: list[tuple[tuple[int, int], ...]] = []
        self._numbers: dict[tuple[tuple[int, int], ...], int] = {}
        self._stack_steps: dict[tuple[int, str], set[int]] = {}
        self._steps: dict[tuple[int, str], tuple[int, int]] = {}

    def state(self, ways: Mapping[int, int]) -> int:
        """Return the number of the state with these readings of each stack."""
        key = tuple(sorted(ways.items()))
        number = self._numbers.setdefault(key, len(self._states))
        if number == len(self._states):
            self._states.append(key)
        return number

    def step(self, state: int, character: str) -> tuple[int, int]:
        """Return the state after `character`, and its number of readings."""
        known = self._steps.get((state, character))
        if known is None:
            following: dict[int, int] = defaultdict(int)
            for stack, count in self._states[state]:
                if (stack, character) not in self._stack_steps:
                    self._stack_steps[stack, character] = self._after(stack, character)
                for found in self._stack_steps[stack, character]:
                    following[found] += count
            known = self._steps[state, character] = self.state(following), sum(following.values())
        return known

    def steps_to_accept(self, text: str, path: Sequence[int]) -> int:
        """Return the most steps to accept a text along these states: llama.cpp may try all readings that fail first."""
        steps = {stack: (0, True) for stack, _ in self._states[path[-1]]}  # to the end, and whether the end is reached
        for character, state in zip(reversed(text), reversed(path[:-1]), strict=True):
            later, steps = steps, {}
            for stack, _ in self._states[state]:
                outcomes = [later[found] for found in self._stack_steps[stack, character]]
                accepted = [1 + count for count, is_read in outcomes if is_read]
                in_vain = sum(1 + count for count, is_read in outcomes if not is_read)
                steps[stack] = in_vain + max(accepted, default=0), bool(accepted)
        in_vain = sum(count for count, is_read in steps.values() if not is_read)
        return in_vain + max(count for count, is_read in steps.values() if is_read)


def _too_ambiguous() -> GenerationError:
    return GenerationError(
        f"the text so far can be read in more than {MAX_READINGS:,} ways under the grammar, and llama.cpp would need more and more "
        "time and memory. Make its alternatives begin differently; in a schema, begin each with a property of a constant value"
    )
