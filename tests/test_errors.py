"""Errors survive the way between processes with what they know."""

import pickle

import pytest

from leanrag import errors


@pytest.mark.parametrize(
    "error",
    [
        errors.ConfigurationError("no"),
        errors.TargetError("no", target=1.0, nearest=2.0),
        errors.MissingDependencyError("no", package="torch", extra="torch"),
        errors.DocumentError("no", path="a.txt"),
        errors.StorageError("no", path="kb"),
        errors.EngineError("no", engine="PostgreSQL", retryable=True),
        errors.BudgetError("no", needed=9, available=1),
        errors.ModelLoadError("no", path="m.gguf", model="m"),
        errors.ContextOverflowError("no", needed=9, available=1, model="m"),
        errors.GenerationTimeout("no", model="m"),
        errors.RemoteError("no", model="m", status=503, retryable=True, retry_after=2.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_back_as_it_was(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert vars(error) or type(error) is errors.ConfigurationError
