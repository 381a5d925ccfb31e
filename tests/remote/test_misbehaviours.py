"""Servers that misbehave: an answer where there is one, else an error of the library; no key is shown, nothing hangs."""

import pytest

from benchmarks.servers.misbehaviours import MISBEHAVIOURS
from benchmarks.servers.outcomes import face_all
from leanrag.remote import attempts, keys

NAMES = [misbehaviour.name for misbehaviour in MISBEHAVIOURS]
ECHOES = [misbehaviour for misbehaviour in MISBEHAVIOURS if "echoes the key in a header" in misbehaviour.name]


@pytest.fixture(scope="module")
def outcomes():
    return dict(zip(NAMES, face_all(MISBEHAVIOURS), strict=True))


def test_there_are_many():
    assert len(set(NAMES)) == len(NAMES) >= 104


@pytest.mark.parametrize("misbehaviour", MISBEHAVIOURS, ids=NAMES)
def test_a_misbehaviour_ends_well(outcomes, misbehaviour):
    outcome = outcomes[misbehaviour.name]
    assert not outcome.is_untyped
    assert outcome.answer == misbehaviour.answer
    assert not outcome.shows_key
    assert not outcome.has_hung


def test_a_key_in_a_log_would_be_seen(monkeypatch):
    monkeypatch.setattr(attempts, "hide_in_logs", lambda secret: None)
    monkeypatch.setattr(keys._filter, "_known", ())
    assert len(ECHOES) > 1
    assert all(outcome.shows_key for outcome in face_all(ECHOES))
