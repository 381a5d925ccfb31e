"""Argument bounds and the fork check."""

import multiprocessing

import numpy as np
import pydantic
import pytest

from leanrag.checks import (
    ProcessGuard,
    check_at_least,
    check_choice,
    check_positive,
    check_seconds,
    check_share,
    check_whole,
    first_problem,
)
from leanrag.errors import ConfigurationError, GenerationError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "good", "bad", "allowed"),
    [
        (lambda **x: check_at_least(2, **x), [2, 2.5, np.float32(3)], [1.9, -INF, INF, NAN, "3", None], "at least 2"),
        (lambda **x: check_whole(1, **x), [1, 10**12, np.int64(4)], [0, -3], "at least 1"),
        (lambda **x: check_whole(1, **x), [1], [1.5, 0.5, NAN, INF, "2", None], "a whole number, at least 1"),
        (lambda **x: check_whole(1, 9000, **x), [1, 9000], [0, 9001], "from 1 to 9,000"),
        (lambda **x: check_whole(1, 9000, **x), [1], [2.5, "3"], "a whole number, from 1 to 9,000"),
        (lambda **x: check_positive(**x), [1e-300, 5], [0, -1, INF, NAN, "1", None], "positive and finite"),
        (lambda **x: check_seconds(**x), [0.001, 1e6], [0, -1, INF, NAN, 1e300, "1", None], "greater than 0 seconds"),
        (lambda **x: check_share(**x), [0, 1, 0.5], [-0.1, 1.1, NAN, "0", None], r"in \[0, 1\]"),
        (lambda **x: check_share(open_ends="0", **x), [1, 1e-9], [0, 1.1], r"in \(0, 1\]"),
        (lambda **x: check_share(open_ends="1", **x), [0, 0.9], [1, -1], r"in \[0, 1\)"),
        (lambda **x: check_share(open_ends="01", **x), [0.5], [0, 1], r"in \(0, 1\)"),
        (lambda **x: check_share(highest=0.5, open_ends="0", **x), [0.5, 0.1], [0, 0.51], r"in \(0, 0.5\]"),
        (lambda **x: check_choice(("a", "b"), **x), ["a", "b"], ["c", None, 1], "one of 'a', 'b'"),
    ],
)
def test_bounds(check, good, bad, allowed):
    for value in good:
        check(size=value)
    for value in bad:
        with pytest.raises(ConfigurationError, match=f"^`size` must be {allowed}, got ") as caught:
            check(size=value)
        assert str(caught.value).endswith(f"got {value!r}")


def test_none_is_allowed_where_it_is_optional():
    check_at_least(1, optional=True, a=None, b=2)
    check_choice(("a",), optional=True, a=None)
    with pytest.raises(ConfigurationError, match="`b` must be at least 1, got 0"):
        check_at_least(1, optional=True, a=None, b=0)


def in_fork(work):
    """Return what `work()` returns in a forked child."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(work()))
    child.start()
    result = queue.get()
    child.join()
    return result


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_may_not_use_what_its_parent_made():
    guard = ProcessGuard()
    assert guard.is_here
    guard.check("the model 'm'", GenerationError)

    def use():
        try:
            guard.check("the model 'm'", GenerationError)
        except GenerationError as error:
            return guard.is_here, str(error)

    is_here, message = in_fork(use)
    assert not is_here
    assert message.startswith("the model 'm' was opened in process ")
    assert "is a fork of it" in message
    assert message.endswith(
        "Load it again in this process, or start child processes with the multiprocessing method 'spawn'"
    )


class Row(pydantic.BaseModel):
    name: str
    answers: list[int] = []


@pytest.mark.parametrize(
    ("row", "where", "value"),
    [({"name": "a", "answers": [1, "x"]}, "answers[1]", "x"), ({"name": 3}, "name", 3), ([], "", [])],
)
def test_the_first_problem_of_wrong_fields(row, where, value):
    with pytest.raises(pydantic.ValidationError) as caught:
        Row.model_validate(row)
    found, problem, wrong = first_problem(caught.value)
    assert (found, wrong) == (where, value)
    assert problem.startswith("Input should be")
