"""The model that answers if the caller names none."""

import math

import pytest

import leanrag
from leanrag import Cascade, ModelLoadError
from leanrag.models import REGISTRY, ModelStatus
from leanrag.pipeline import defaults
from leanrag.pipeline.defaults import Machine, advise_models, cascade_of, default_models, with_shipped_calibrations
from leanrag.testing import FakeModel, HashEmbedder

SMALL, MIDDLE, LARGE = "smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"
DESKTOP, LAPTOP, OLD = Machine(math.inf, 8), Machine(1.2e9, 2), Machine(3e8, 1)


@pytest.fixture
def pulled(monkeypatch, tmp_path):
    def pull(*names):
        statuses = [ModelStatus(spec, tmp_path if spec.name in names else None) for spec in REGISTRY.values()]
        monkeypatch.setattr(defaults, "list_models", lambda: statuses)

    return pull


@pytest.mark.parametrize(
    ("names", "machine", "chosen"),
    [
        ((SMALL, MIDDLE, LARGE), DESKTOP, (MIDDLE, LARGE)),
        ((SMALL, MIDDLE, LARGE), LAPTOP, (MIDDLE,)),
        ((SMALL, MIDDLE, LARGE), OLD, (SMALL,)),
        ((SMALL, LARGE), DESKTOP, (LARGE,)),
        ((SMALL, LARGE), Machine(math.inf, 1), (SMALL,)),
        ((SMALL,), DESKTOP, (SMALL,)),
        ((LARGE,), OLD, (LARGE,)),
        ((), DESKTOP, (LARGE,)),
        ((), LAPTOP, (MIDDLE,)),
        ((), OLD, (SMALL,)),
    ],
)
def test_the_best_that_is_here_and_that_the_machine_carries(pulled, names, machine, chosen):
    pulled(*names)
    assert default_models(machine) == chosen


def test_the_advice_says_what_to_pull(pulled):
    pulled()
    advice = "Models are missing. Get them with: leanrag pull"
    assert advise_models(DESKTOP) == f"{advice} {MIDDLE} {LARGE} all-minilm-l6-v2 (1700 MB)"
    assert advise_models(OLD) == f"{advice} {SMALL} all-minilm-l6-v2 (190 MB)"
    pulled(SMALL, "all-minilm-l6-v2")
    assert advise_models(LAPTOP) == (
        f"This machine can carry better models. Get them with: leanrag pull {MIDDLE} (491 MB)"
    )
    assert advise_models(OLD) is None
    pulled(MIDDLE, LARGE, "all-minilm-l6-v2")
    assert advise_models(DESKTOP) is None


def test_a_folder_without_a_model_takes_the_default(pulled, tmp_path, monkeypatch):
    pulled()
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: OLD))
    with leanrag.open(tmp_path / "kb", embedder=HashEmbedder()) as rag:
        rag.add_text("Releases are signed off by Ada Park.")
        with pytest.raises(ModelLoadError, match=f"leanrag pull {SMALL}"):
            rag.ask("Who signs off releases?")


READER = "smollm2-135m+reader"


def test_a_reader_has_the_calibration_that_ships_with_it():
    [calibration] = with_shipped_calibrations(Cascade([READER])).calibrations
    assert [model.name for model in calibration.models] == [READER]
    assert calibration.auroc > 0.6
    assert calibration.threshold is not None
    assert with_shipped_calibrations(Cascade([READER, LARGE])).calibrations == [calibration, None]


@pytest.mark.parametrize("cascade", [Cascade([SMALL, LARGE]), Cascade([READER], calibrations=[None])])
def test_other_models_and_calibrations_of_the_user_stay_as_they_are(cascade):
    assert with_shipped_calibrations(cascade) is cascade


def test_loaded_models_have_the_calibrations_of_their_names():
    loaded = {name: FakeModel(name=name) for name in (READER, LARGE)}
    cascade = cascade_of([READER, LARGE], loaded)
    assert cascade.models == list(loaded.values())
    assert cascade.calibrations == with_shipped_calibrations(Cascade([READER, LARGE])).calibrations
    assert cascade_of([LARGE], loaded).calibrations == ()


@pytest.mark.model
def test_the_confidence_of_a_reader_is_a_probability(tmp_path):
    with leanrag.open(tmp_path / "kb", model=READER, embedder=HashEmbedder()) as rag:
        rag.add_text("Releases are signed off by Ada Park.")
        answer = rag.ask("Who signs off releases?")
    assert answer.calibrated  # so the shipped calibration is for this file
