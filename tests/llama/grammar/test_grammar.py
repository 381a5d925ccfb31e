"""No grammar reaches llama.cpp unread, and only tokens that it allows are drawn."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leanrag import ConfigurationError, GenerationError
from leanrag.llama.grammar.gbnf import MAX_CHARS, MAX_READINGS, Readings, check_gbnf, read_gbnf
from leanrag.llama.grammar.sampler import Grammar
from leanrag.llama.grammar.schema import schema_to_gbnf
from leanrag.llama.sampling import Sampler, SamplingOptions
from tests.examples import max_examples
from tests.llama.grammar.writing import ends, ids, spells

GREEDY = Sampler(SamplingOptions())
STRING = {"type": "string"}

# The check of GBNF

BAD = {
    "empty": "",
    "only a comment": "# root",
    "no root": 'start ::= "a"',
    "not a string": None,
    "bytes": b'root ::= "a"',
    "surrogate": 'root ::= "\ud800"',
    "nul": 'root ::= "a\0"',
    "too long": "root ::= " + '"a" ' * (MAX_CHARS // 4),
    "no definition sign": 'root = "a"',
    "no name": '::= "a"',
    "underscore": 'root ::= a_b\na ::= "a"',
    "undefined": "root ::= item",
    "defined twice": 'root ::= "a"\nroot ::= "b"',
    "open literal": 'root ::= "a',
    "open escape": 'root ::= "a\\',
    "open class": "root ::= [a",
    "open range": "root ::= [a-",
    "empty class": "root ::= []",
    "empty negated class": "root ::= [^]",
    "descending range": "root ::= [z-a]",
    "unknown escape": r'root ::= "\q"',
    "short escape": r'root ::= "\x4"',
    "wrong digits": r'root ::= "\u00g0"',
    "no digits": r'root ::= "\x+1"',
    "too large a code point": r'root ::= "\U00110000"',
    "escaped surrogate": r"root ::= [\ud800-\udfff]",
    "open group": 'root ::= ("a"',
    "closed group": 'root ::= "a")',
    "nothing to repeat": "root ::= *",
    "nothing to repeat in an alternative": 'root ::= "a" | +',
    "repeats the empty literal": 'root ::= ""*',
    "two repetitions": 'root ::= "a"*?',
    "huge repetition": 'root ::= "a"{1000000}',
    "huge upper bound": 'root ::= "a"{1,1000000}',
    "endless bound": 'root ::= "a"{' + "9" * 100 + "}",
    "falling bounds": 'root ::= "a"{3,1}',
    "zero times": 'root ::= "a"{0}',
    "no lower bound": 'root ::= "a"{,3}',
    "open bounds": 'root ::= "a"{3',
    "negative bound": 'root ::= "a"{-1}',
    "multiplied repetitions": 'root ::= ("a"{0,1500}){1500}',
    "long literal times many": 'root ::= "' + "a" * 1000 + '"{1000}',
    "many rules": "root ::= " + '"a"{0,2000} ' * 11,
    "10,000 parentheses": "root ::= " + "(" * 10_000 + '"a"' + ")" * 10_000,
    "10,000 open parentheses": "root ::= " + "(" * 10_000,
    "left recursion": 'root ::= root "a" | "b"',
    "itself": "root ::= root",
    "itself or the end": "root ::= root | ",
    "indirect left recursion": 'root ::= a "x"\na ::= b | "y"\nb ::= root',
    "left recursion behind the empty": 'root ::= "a"? root "b" | "c"',
    "left recursion that llama.cpp misses": 'root ::= a root "x" | "y"\na ::= b\nb ::= "b" | ""',
    "unreachable left recursion": 'root ::= "a"\nb ::= b "c" | "d"',
    "loop of the empty": 'root ::= ("a"?)*',
    "loop of the empty, once removed": 'root ::= a+\na ::= b b\nb ::= "b"*',
    "choices without end": 'root ::= ("a"?){200} "b"',
    "no end": 'root ::= "a" root',
    "no end together": 'root ::= "a" b\nb ::= "b" root',
    "deep beginnings": 'root ::= r0\nr2000 ::= "a"\n' + "\n".join(f"r{i} ::= r{i + 1}" for i in range(2000)),
    "2**40 beginnings": 'root ::= r0\nr40 ::= "a"\n'
    + "\n".join(f'r{i} ::= r{i + 1} "x" | r{i + 1}' for i in range(40)),
    "too many readings": "root ::= " + " | ".join(f'"a{i}"' for i in range(MAX_READINGS + 1)),
    "token": 'root ::= <[4]> "a"',
    "named token": "root ::= <|im_end|>",
    "negated token": "root ::= !<[4]>",
    "unicode space": 'root ::=\u00a0"a"',
    "two on one line": 'root ::= "a" b ::= "b"',
    "alternatives on lines": 'root ::= "a"\n| "b"',
}


@pytest.mark.parametrize("name", BAD)
def test_bad_grammars_never_reach_llama_cpp(name):
    class Unreachable:
        """Fails when anything is asked of it."""

    with pytest.raises(ConfigurationError):
        check_gbnf(BAD[name])
    with pytest.raises(ConfigurationError):
        Grammar(Unreachable(), BAD[name])


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ('root ::= "a"\nb ::= [z-a]', "line 2, column 7", "a range that ascends"),
        ('# note\nroot ::= ("a" |\n  item)', "line 3, column 3", "a rule `item` to be defined"),
        ('root ::= "a" )', "line 1, column 14", "the end of the line"),
        ('root ::= "abc', "line 1, column 14", 'a closing `"`, found the end'),
        ('root ::= item "x"\nitem ::= root?', "line 1, column 1", "left recursion"),
        ('root ::= "a"{9999}', "line 1, column 13", "at most 2,000 repetitions"),
        (r'root ::= "\q"', "line 1, column 11", "an escape"),
        ('root ::= "a" b?\nb ::= "b" b', "line 2, column 1", "a way for rule `b` to end"),
        ("root ::= \n", "line 1, column 1", None),
    ],
)
def test_messages_say_where_and_what(text, place, expected):
    if expected is None:
        check_gbnf(text)  # only the empty text, and llama.cpp takes it
        return
    with pytest.raises(ConfigurationError) as caught:
        check_gbnf(text)
    assert place in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("gbnf", "allowed", "refused"),
    [
        ('root ::= "a" | ("b" # note\n | "c")+', ["a", "b", "cbc"], ["", "ab"]),
        ("root ::= ", [""], ["a"]),
        (r"root ::= [^a-c\]\x00-\x1f]{2,3}" + "\r\n", ["dé", "x-y"], ["d", "da", "d]", "wxyz"]),
        (r'root ::= "\x41\u00e9\U0001F600\n"', ["Aé😀\n"], ["A"]),
        ('root ::= [a-] [-b] . "c"{2,}', ["a-xcc", "-béccc"], ["a-xc", "c-xcc"]),
        ('root ::= "a" root "b" | ""', ["", "aabb"], ["aab", "abb"]),
        ('root ::= ("a" "b"?){3} item\nitem ::= "" | "c"', ["aaa", "ababab", "aabac"], ["aa", "abb"]),
        ('root ::= "a\nb"', ["a\nb"], ["ab"]),
    ],
)
def test_the_dialect_is_that_of_llama_cpp(vocabulary, gbnf, allowed, refused):
    assert [text for text in allowed if not spells(vocabulary, gbnf, text)] == []
    assert [text for text in refused if spells(vocabulary, gbnf, text)] == []


atoms = st.sampled_from(
    [*'"a" "ab" "" [a-c] [^a] [a-] . r0 r1 r2 "é" [à-ï] "\\n" [\\x00-\\x20] "b" "c"'.split(), "( )", '[^\\]" ]']
)
bodies = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(" ".join),
        st.lists(inner, min_size=1, max_size=3).map(" | ".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)
grammars = st.tuples(bodies, bodies, bodies).map(
    lambda parts: "root ::= r0\n" + "\n".join(f"r{i} ::= {body}" for i, body in enumerate(parts))
)


@st.composite
def damaged(draw):
    text = draw(grammars)
    for _ in range(draw(st.integers(1, 4))):
        at, to = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
        text = (
            text[:at]
            + draw(st.sampled_from([*'"[]()|*+?{}\\-^<>!.:=\n# r0é', "{2}", "\\x4", ""]))
            + text[min(to, at + 2) :]
        )
    return text


def passes(text):
    try:
        check_gbnf(text)
    except ConfigurationError:
        return False
    return True


def follow_closely(vocabulary, text, seed, steps=25):
    """Write at random, comparing what llama.cpp allows with what our own reading of the grammar allows."""
    random, grammar = np.random.default_rng(seed), Grammar(vocabulary, text)
    plain = [
        token
        for token in range(vocabulary.n_tokens)
        if len(vocabulary.piece(token)) == 1 and vocabulary.piece(token) < b"\x80"
    ]
    plain = [token for token in plain if token not in vocabulary.control_tokens and vocabulary.piece(token) != b"\0"]
    for _ in range(steps):
        readings, allowed = grammar._readings, grammar._allowed()
        tops = [readings._cells[stack] for stack in readings._stacks if stack]
        chars = [readings._items[option][place] for option, place, _ in tops]
        if not grammar._partial:
            for token in plain:
                point = ord(vocabulary.piece(token))
                ours = any(any(a <= point <= b for a, b in item.ranges) != item.is_negated for item in chars)
                assert allowed[token] == ours, (text, token)
            assert all(allowed[token] == (0 in readings._stacks) for token in ends(vocabulary))
        token = None
        try:
            token = grammar.pick(random.normal(size=vocabulary.n_tokens).astype(np.float32), GREEDY)
            grammar.accept(token)
        except GenerationError:
            break
        if vocabulary.is_end(token):
            break
    grammar.close()


@pytest.mark.slow
@max_examples(400)
@given(grammars, st.integers(0, 2**32))
def test_what_passes_is_read_by_llama_cpp_as_by_us(vocabulary, text, seed):
    assume(passes(text))
    follow_closely(vocabulary, text, seed)


@max_examples(600)
@given(
    st.one_of(
        damaged(),
        st.text(max_size=30),
        st.lists(atoms | st.sampled_from("root ::= | ( ) * { } \n".split(" "))).map(" ".join),
    )
)
@pytest.mark.slow
def test_no_damage_gets_past_the_check(vocabulary, text):
    for grammar in (text, "root ::= " + text):
        if passes(grammar):
            follow_closely(vocabulary, grammar, 0, steps=5)


# Picking tokens

JSON = schema_to_gbnf({"type": "object", "properties": {"a": STRING}, "required": ["a"]})


@pytest.fixture
def grammar(vocabulary):
    made = Grammar(vocabulary, JSON)
    yield made
    made.close()


def logits_for(vocabulary, *best):
    logits = np.zeros(vocabulary.n_tokens, np.float32)
    for place, token in enumerate(best):
        logits[token] = 10 - place
    return logits


def test_greedy_takes_the_best_allowed_token(vocabulary, grammar):
    (x,), (brace,), (quote,) = (ids(vocabulary, text) for text in 'x{"')
    logits = logits_for(vocabulary, x, quote, brace)
    before = logits.copy()
    assert grammar.pick(logits, GREEDY) == brace
    assert grammar.pick(logits_for(vocabulary, brace), GREEDY) == brace
    assert (logits == before).all()


@pytest.mark.slow
def test_a_draw_is_the_distribution_restricted_to_what_is_allowed(vocabulary):
    grammar, sampler = Grammar(vocabulary, "root ::= [abc]"), Sampler(SamplingOptions(temperature=1.0, seed=3))
    probabilities = np.full(vocabulary.n_tokens, 1e-6)
    for text, p in {"a": 0.1, "b": 0.05, "c": 0.05, "x": 0.5, "y": 0.3}.items():
        probabilities[ids(vocabulary, text)] = p
    drawn = [grammar.pick(np.log(probabilities).astype(np.float32), sampler) for _ in range(4000)]
    shares = [drawn.count(ids(vocabulary, text)[0]) / 4000 for text in "abc"]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.03)
    assert sum(shares) == pytest.approx(1)


def test_end_tokens_come_exactly_when_the_text_is_complete(vocabulary, grammar):
    end = next(iter(ends(vocabulary)))
    for token in ids(vocabulary, '{"a":"x"}'):
        assert grammar.pick(logits_for(vocabulary, end, token), GREEDY) == token
        with pytest.raises(ConfigurationError, match="not allowed"):
            grammar.accept(end)
        grammar.accept(token)
    assert grammar.pick(logits_for(vocabulary, *ids(vocabulary, "x")), GREEDY) in ends(vocabulary)
    grammar.accept(end)


def test_control_tokens_are_no_text(vocabulary, grammar):
    for token in ids(vocabulary, '{"a":"'):
        grammar.accept(token)
    control = vocabulary.control_tokens - ends(vocabulary)
    assert {vocabulary.text(token) for token in control} >= {"<|im_start|>", "<tool>"}
    (x,) = ids(vocabulary, "x")
    assert grammar.pick(logits_for(vocabulary, *control, x), GREEDY) == x
    for token in control:
        with pytest.raises(ConfigurationError, match="not allowed"):
            grammar.accept(token)


@pytest.mark.parametrize(
    "data", [b"\xff", b"\xc0", b"\xe0\x80", b"\xed\xa0", b"\xf0\x80", b"\xf5", b"\xc3(", b"\x80", b"\0"]
)
def test_bytes_that_are_no_text_are_refused(vocabulary, data):
    grammar = Grammar(vocabulary, "root ::= [^a]*")
    tokens = [6 + byte for byte in data]  # the byte tokens of the tiny vocabulary
    assert [vocabulary.piece(token) for token in tokens] == [bytes([byte]) for byte in data]
    for token in tokens[:-1]:
        grammar.accept(token)
    with pytest.raises(ConfigurationError, match="not allowed"):
        grammar.accept(tokens[-1])
    assert grammar.pick(logits_for(vocabulary, tokens[-1]), GREEDY) != tokens[-1]


def test_a_character_may_come_in_pieces(vocabulary):
    grammar = Grammar(vocabulary, 'root ::= "é"')
    first, second = (6 + byte for byte in "é".encode())
    (x,) = ids(vocabulary, "x")
    for token in (first, second):
        assert grammar.pick(logits_for(vocabulary, x, *ends(vocabulary)), GREEDY) == token
        grammar.accept(token)
    assert grammar.pick(logits_for(vocabulary, x), GREEDY) in ends(vocabulary)


def test_a_dead_end_is_an_error(vocabulary):
    grammar = Grammar(vocabulary, r'root ::= "a" [\x00]')
    (a,) = ids(vocabulary, "a")
    grammar.accept(a)
    with pytest.raises(GenerationError, match="no token of the model is allowed next"):
        grammar.pick(logits_for(vocabulary, a), GREEDY)


@pytest.mark.slow
def test_ambiguity_ends_before_the_memory_does(vocabulary):
    grammar = Grammar(vocabulary, 'root ::= "a" root "b" | "a" root "c" | "d"')
    (a,) = ids(vocabulary, "a")
    for _ in range(8):
        grammar.accept(a)
    with pytest.raises(GenerationError, match="more than 1,000 ways"):
        grammar.accept(a)  # 3 * 2**9 ways


def test_nothing_impossible_is_accepted(vocabulary, grammar):
    for token in (-1, vocabulary.n_tokens, 2**31 - 1, *ids(vocabulary, "x")):
        with pytest.raises(ConfigurationError, match="not allowed"):
            grammar.accept(token)
    with pytest.raises(ConfigurationError, match="`logits` must be of shape"):
        grammar.pick(np.zeros(3, np.float32), GREEDY)
    assert grammar.pick(np.full(vocabulary.n_tokens, np.nan, np.float32), GREEDY) == ids(vocabulary, "{")[0]


def test_a_closed_grammar_says_so(vocabulary):
    grammar = Grammar(vocabulary, JSON)
    grammar.close()
    grammar.close()
    with pytest.raises(ConfigurationError, match="closed"):
        grammar.pick(logits_for(vocabulary, 0), GREEDY)
    with pytest.raises(ConfigurationError, match="closed"):
        grammar.accept(0)


# Work within a token


def shared_lengths(texts):
    return [
        next((n for n in range(min(len(a), len(b))) if a[n] != b[n]), min(len(a), len(b)))
        for a, b in itertools.pairwise(["", *texts])
    ]


@pytest.mark.parametrize("texts", [[" " * 64], [" " * n for n in range(65)], [" " * 63 + "x", " " * 63 + "y"]])
def test_ambiguity_within_a_text_is_bounded(texts):
    for grammar in (
        'root ::= (" " | " "){1,10} "x"',
        'root ::= " "{1,64} ("x" | "y")',
        'root ::= (" " | " ")+ "x"?',  # as ambiguous, but the first way reads the spaces to their end
    ):
        if "+" not in grammar or not texts[-1].endswith("y"):  # a y after spaces is refused, in each way
            Readings(read_gbnf(grammar)).check_work(texts, shared_lengths(texts))
    with pytest.raises(GenerationError, match="could take more than 2,00"):
        Readings(read_gbnf('root ::= (" " | " "){1,40} "x"')).check_work(texts, shared_lengths(texts))


def test_work_is_counted_at_the_place_that_was_reached():
    readings = Readings(read_gbnf('root ::= "a" (" " | " "){1,40} "x"'))
    readings.check_work(["", " " * 64], [0, 0])  # nothing of it may come
    readings.follow("a")
    with pytest.raises(GenerationError, match="Make its alternatives begin differently"):
        readings.check_work(["", " " * 64], [0, 0])
    readings.follow(" " * 40)
    readings.check_work(["", " " * 64], [0, 0])


def steps_from(readings, stack, text):
    """Steps to test the rest of a text from one stack, way by way, in the worst order; and whether it is read to its end."""
    if not text:
        return 0, True
    outcomes = [steps_from(readings, found, text[1:]) for found in readings._after(stack, text[0])]
    in_vain = sum(1 + steps for steps, is_read in outcomes if not is_read)
    accepted = [1 + steps for steps, is_read in outcomes if is_read]
    return in_vain + max(accepted, default=0), bool(accepted)


def steps_at(readings, text):
    outcomes = [steps_from(readings, stack, text) for stack in readings._stacks]
    accepted = [steps for steps, is_read in outcomes if is_read]
    return sum(steps for steps, is_read in outcomes if not is_read) + max(accepted, default=0)


@given(st.lists(st.text("ab .", max_size=8), min_size=1, max_size=12, unique=True).map(sorted), st.integers(1, 5))
def test_work_is_what_following_each_way_takes(texts, most):
    grammar = read_gbnf(f'root ::= ("a" | "ab" | [a-b]){{1,{most}}} " "?')
    work = sum(steps_at(Readings(grammar), text) for text in texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leanrag.llama.grammar.gbnf.WORK_PER_TEXT", 0)
        patch.setattr("leanrag.llama.grammar.gbnf.MAX_WORK", work)
        Readings(grammar).check_work(texts, shared_lengths(texts))
        patch.setattr("leanrag.llama.grammar.gbnf.MAX_WORK", work - 1)
        with pytest.raises(GenerationError):
            Readings(grammar).check_work(texts, shared_lengths(texts))


@given(st.lists(st.text("ab .", max_size=8), min_size=1, max_size=12, unique=True).map(sorted))
def test_a_grammar_with_one_way_costs_its_characters(texts):
    grammar = read_gbnf('root ::= [a-b]+ "."')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leanrag.llama.grammar.gbnf.WORK_PER_TEXT", 0)
        patch.setattr(
            "leanrag.llama.grammar.gbnf.MAX_WORK", 2 * sum(map(len, texts))
        )  # a letter or a full stop may come next
        Readings(grammar).check_work(texts, shared_lengths(texts))


@pytest.mark.model
def test_an_ambiguous_grammar_ends_with_an_error_and_the_model_goes_on(smollm):
    with pytest.raises(GenerationError, match="Make its alternatives begin differently"):
        smollm.generate("abc", max_tokens=5, grammar='root ::= (" " | " "){1,40} "x"')
    assert smollm.generate("abc", max_tokens=9, grammar='root ::= ("-" | "-")* "x"').usage.completion_tokens > 0
