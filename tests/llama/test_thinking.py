"""The thoughts of a local model have a budget: when it is used up, the answer still comes."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanrag import ContextOverflowError, LlamaCppModel, Message
from leanrag.generation import part_generated
from leanrag.llama.chat import encode_text
from leanrag.llama.grammar import make_grammar
from leanrag.llama.options import LlamaOptions
from leanrag.llama.process import IsolatedModel
from leanrag.llama.sampling import Sampler, SamplingOptions
from leanrag.llama.thinking import ThoughtBudget
from leanrag.protocols import GenerateOptions
from tests.plain import Alike
from tests.tiny_gguf import CHATML, write_tiny_gguf

HI = [Message("user", "hi")]
LOGITS = np.zeros(1, np.float32)
ENDING = "\n</think>\n\n"  # a token a byte in the tiny model


@pytest.fixture(scope="module")
def vocabulary(tiny):
    return tiny._engine.vocabulary


class Script:
    """Draws the tokens of a text, then end tokens."""

    def __init__(self, text, vocabulary):
        end = next(token for token in range(vocabulary.n_tokens) if vocabulary.is_end(token))
        self._tokens = iter(encode_text(text, vocabulary))
        self._end = end

    def __call__(self, logits):
        return next(self._tokens, self._end)


def write(text, vocabulary, options, closing=None):
    """Return the text of a generation, and the number of its tokens."""
    budget, tokens = ThoughtBudget(Script(text, vocabulary), vocabulary, options, closing), []
    while len(tokens) < options.reserved_tokens:
        token = budget(LOGITS)
        if vocabulary.is_end(token):
            break
        tokens.append(token)
        if len(tokens) >= budget.n_allowed:
            break
    return b"".join(map(vocabulary.piece, tokens)).decode(), len(tokens)


def test_a_thought_within_its_budget_is_left_alone(vocabulary):
    options = GenerateOptions(8, thinking_tokens=100)
    assert write("<think>Bo?</think>Ada", vocabulary, options)[0] == "<think>Bo?</think>Ada"
    assert write("Bo?</think>Ada", vocabulary, options, "</think>")[0] == "Bo?</think>Ada"


@pytest.mark.parametrize("prefix", ["<think>", ""])
def test_a_thought_beyond_its_budget_is_ended_and_the_answer_gets_all_of_its_tokens(vocabulary, prefix):
    closing = None if prefix else "</think>"
    text, n = write(prefix + "x" * 500, vocabulary, GenerateOptions(10, thinking_tokens=40), closing)
    thought, _, answer = text.partition(ENDING)
    assert (len(thought) + len(ENDING), answer, n) == (40, "x" * 10, 50)


def test_without_a_budget_of_their_own_thoughts_take_half(vocabulary):
    text, n = write("x" * 500, vocabulary, GenerateOptions(60), "</think>")
    assert text == "x" * (30 - len(ENDING)) + ENDING + "x" * 30
    assert n == 60


def test_an_answer_without_thoughts_cannot_use_their_tokens(vocabulary):
    assert write("x" * 500, vocabulary, GenerateOptions(10, thinking_tokens=40)) == ("x" * 10, 10)


def test_a_short_thought_leaves_its_other_tokens_unused(vocabulary):
    text, n = write("<think>Bo?</think>" + "x" * 500, vocabulary, GenerateOptions(10, thinking_tokens=100))
    assert text == "<think>Bo?</think>" + "x" * 10
    assert n == len(text)


def test_a_model_that_ends_inside_its_thought_goes_on_with_the_answer(vocabulary):
    text, _ = write("Bo?", vocabulary, GenerateOptions(5, thinking_tokens=100), "</think>")
    assert text == "Bo?" + ENDING


def test_no_thoughts_at_all_may_be_asked_for(vocabulary):
    text, n = write("Ada", vocabulary, GenerateOptions(20, thinking_tokens=0), "</think>")
    assert text.startswith(ENDING)
    assert n <= 20


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"), ("<|channel>thought", "<channel|>")],
)
def test_a_thought_is_ended_with_the_tag_of_its_vendor(vocabulary, opening, closing):
    text, _ = write(opening + "x" * 500, vocabulary, GenerateOptions(20, thinking_tokens=60))
    assert text.startswith(opening + "x")
    assert text.endswith(f"x\n{closing}\n\n" + "x" * 20)


@given(
    text=st.lists(st.sampled_from(["<think>", "</think>", "a", "\n", "`", "[THINK]"]), max_size=40).map("".join),
    max_tokens=st.integers(1, 40),
    thinking_tokens=st.one_of(st.none(), st.integers(0, 60)),
    closing=st.sampled_from([None, "</think>", "[/THINK]"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_longer_than_what_is_reserved(vocabulary, text, max_tokens, thinking_tokens, closing):
    options = GenerateOptions(max_tokens, thinking_tokens=thinking_tokens)
    _, n = write(text, vocabulary, options, closing)
    assert n <= options.reserved_tokens


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    path = tmp_path_factory.mktemp("thinking") / "thinks.gguf"
    template = CHATML.replace("assistant\n", "assistant\n<think>\n")
    with LlamaCppModel(write_tiny_gguf(path, chat_template=template), n_ctx=256, name="thinker") as model:
        yield model


def test_a_model_answers_after_its_thoughts(thinker):
    stream = thinker.stream(HI, GenerateOptions(16, thinking_tokens=48))
    pieces = list(stream.pieces())
    result = stream.result
    assert "".join(piece.text for piece in pieces if piece.is_thought).strip() == result.thoughts
    assert "".join(piece.text for piece in pieces if not piece.is_thought) == result.text
    assert (result.thought_tokens, result.usage.completion_tokens) == (48, 64)
    assert len(result.logprobs) == len(result.token_ids) == 64
    assert result.finish_reason == "length"


def test_thoughts_are_reserved_in_the_window(thinker):
    with pytest.raises(ContextOverflowError) as caught:
        thinker.generate(HI, max_tokens=100, thinking_tokens=1000)
    assert caught.value.needed == thinker.count(HI) + 1100


def test_thinking_can_be_switched_off(tmp_path):
    template = CHATML.replace("assistant\n", "assistant\n<think>\n")
    path = write_tiny_gguf(tmp_path / "quick.gguf", chat_template=template)
    with LlamaCppModel(path, n_ctx=256, thinking=False) as model:
        assert model.render(HI).endswith("<think>\n\n</think>\n\n")
        result = model.generate(HI, max_tokens=16)
    assert (result.thoughts, result.thought_tokens, result.usage.completion_tokens) == (None, 0, 16)


@pytest.mark.slow
def test_a_child_process_streams_thoughts_apart(thinker):
    with IsolatedModel(thinker.path, n_ctx=256) as child:
        stream = child.stream(HI, GenerateOptions(16, thinking_tokens=48))
        pieces = list(stream.pieces())
    expected = thinker.generate(HI, max_tokens=16, thinking_tokens=48)
    assert (stream.result.thoughts, stream.result.text) == (expected.thoughts, expected.text)
    assert "".join(piece.text for piece in pieces if piece.is_thought).strip() == expected.thoughts
    assert "".join(piece.text for piece in pieces if not piece.is_thought) == expected.text


def test_many_thinking_requests_are_answered_as_one_is(thinker):
    prompts = [[Message("user", text)] for text in ("a", "b", "c", "d")]
    together = thinker.generate_many(prompts, max_tokens=8, thinking_tokens=24)
    alone = [thinker.generate(prompt, max_tokens=8, thinking_tokens=24) for prompt in prompts]
    assert list(map(Alike, together)) == list(map(Alike, alone))


SCHEMA = {"type": "object", "properties": {"a": {"enum": ["</think><|end|>", "x"]}}, "required": ["a"]}


@pytest.mark.parametrize("text", ["Bo?</think>xyz", "x" * 500, "Bo?"])
def test_under_a_grammar_a_thought_is_free_and_the_answer_begins_after_its_tag(vocabulary, text):
    grammar = make_grammar(vocabulary, schema=SCHEMA)
    script, answer = Script(text, vocabulary), grammar.chooser(Sampler(SamplingOptions()))
    budget = ThoughtBudget(script, vocabulary, GenerateOptions(40, thinking_tokens=30), "</think>", answer)
    zeros, tokens = np.zeros(vocabulary.n_tokens, np.float32), []
    while not tokens or not vocabulary.is_end(tokens[-1]):
        tokens.append(budget(zeros))
    grammar.close()
    written = b"".join(map(vocabulary.piece, tokens[:-1])).decode()
    parted = part_generated(written, begins_in_thought=True, is_verbatim=True)
    assert text.startswith(parted.thoughts)
    assert json.loads(parted.text)["a"] in ("</think><|end|>", "x")


def test_a_token_that_ends_a_thought_does_not_begin_the_answer(vocabulary):
    whole = [token for token in range(vocabulary.n_tokens) if vocabulary.piece(token) == b">"]
    budget = ThoughtBudget(
        Script("</think", vocabulary), vocabulary, GenerateOptions(9), "</think>", lambda logits: whole[0]
    )
    assert not budget._begins_answer(whole[0])
    for _ in "</think":
        budget(LOGITS)
    assert not budget._begins_answer(whole[0])

    class Pieces:
        def piece(self, token):
            return b">{"

    budget._vocabulary = Pieces()
    assert budget._begins_answer(0)


def test_a_model_thinks_before_an_answer_with_a_schema(thinker):
    stream = thinker.stream(HI, LlamaOptions(60, thinking_tokens=48, schema=SCHEMA))
    pieces = list(stream.pieces())
    result = stream.result
    assert "".join(piece.text for piece in pieces if piece.is_thought).strip() == result.thoughts
    assert "".join(piece.text for piece in pieces if not piece.is_thought) == result.text
    assert json.loads(result.text)["a"] in ("</think><|end|>", "x")
    assert 0 < result.thought_tokens <= 48
