"""The weights are a file that is read with care, and that fits the features."""

import pytest

from leanrag.errors import StorageError
from leanrag.evidence.scoring import UNIT_FEATURES
from leanrag.evidence.weights import WEIGHTS_PATH, Weights, read_weights, write_weights


def test_the_weights_of_the_library_are_of_its_features():
    weights = read_weights()
    assert set(weights.with_vectors) == set(UNIT_FEATURES)
    without_vectors = {name for name in UNIT_FEATURES if "similarity" not in name}
    assert set(weights.words_alone) == without_vectors


def test_what_is_written_is_read(tmp_path):
    weights = Weights(with_vectors={"prior": 1.5}, words_alone={"overlap": -0.25})
    write_weights(weights, tmp_path / "weights.json")
    assert read_weights(tmp_path / "weights.json") == weights


def test_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(WEIGHTS_PATH.read_text().replace('"prior": 1', '"prior": 2'))
    with pytest.raises(StorageError, match="Install leanrag again"):
        read_weights(path)
