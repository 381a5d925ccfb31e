"""Tuning: points computed from single models, the choice, its bound, and the file of settings."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag import ConfigurationError, StorageError
from leanrag.bounds import clopper_pearson_upper
from leanrag.evaluation import TunedSettings, read_settings, run, tune
from leanrag.evaluation.measures import RIGHT
from leanrag.evaluation.tuning import Table, choose
from leanrag.ledger import Prices
from leanrag.routing.cascade import Cascade
from leanrag.testing import HashEmbedder
from tests.examples import max_examples
from tests.stories import PARK, model, open_rag

ROWS = [(f"Who signs off release {n}?", ["Ada Park"]) for n in range(100)]


@pytest.fixture
def folder(tmp_path):
    with open_rag(tmp_path / "kb") as rag:
        rag.add_text(PARK, id="park")
    return tmp_path / "kb"


def models():
    return [model(), model("large", wrong=lambda n: False)]


def tuned(folder, rows=ROWS, **options):
    options = {"k": (3,), "cost": "prompt tokens"} | options
    return tune(folder, rows, models=options.pop("models", None) or models(), embedder=HashEmbedder(), **options)


@pytest.mark.slow
def test_a_cascade_is_computed_as_it_is_asked(folder):
    result = tuned(folder)
    assert (result.runs, len(result.points)) == (2, 2 + 19)
    point = next(point for point in result.points if point.settings.threshold == 0.5)
    assert point.is_computed
    with leanrag.open(folder, embedder=HashEmbedder(), **point.settings.arguments(models())) as rag:
        asked = run(rag, ROWS)
    assert point.quality == np.mean([RIGHT.value(outcome) for outcome in asked.outcomes])
    assert point.cost == np.mean([outcome.answer.usage.prompt_tokens for outcome in asked.outcomes])


@pytest.mark.slow
def test_the_chosen_point_is_cheaper_only_with_a_bound(folder):
    result = tuned(folder)
    reference = result.points[result.reference]
    assert (reference.settings.models, reference.quality, reference.lost) == (("large",), 1, 0)
    assert result.chosen == result.reference  # here the small model costs as much as the large one, or loses a quarter
    assert "so it stays" in str(result)

    good = [model(wrong=lambda n: False), model("large", wrong=lambda n: False)]
    prices = {"small": 1.0, "large": 10.0}
    cheap = tuned(folder, models=[_priced(one, prices[one.name]) for one in good], cost="cost")
    assert cheap.settings == TunedSettings(
        models=("small",), k=3, context_tokens=("auto",), packer="evidence", threshold=None
    )
    assert cheap.bound == clopper_pearson_upper(0, 50, 0.1) < 0.05
    assert "lose at most 4.5%" in str(cheap)
    picture = ElementTree.fromstring(cheap.to_svg())
    names = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"chosen", "reference", "cost of a question"} <= names


def _priced(one, price):
    one.price = Prices(price, price).cost
    return one


@pytest.mark.slow
def test_a_folder_of_runs_asks_nothing_again(folder, tmp_path):
    first = tuned(folder, out=tmp_path / "out")
    again = models()
    assert tuned(folder, models=again, out=tmp_path / "out") == first
    assert [one.prompts for one in again] == [[], []]


def test_too_few_questions_say_how_many_are_needed(folder):
    with pytest.raises(
        ConfigurationError, match=r"10 questions with right answers cannot show .* at least 90 are needed"
    ):
        tuned(folder, ROWS[:10])


@pytest.mark.slow
def test_an_unknown_cost_is_refused(folder):
    with pytest.raises(ConfigurationError, match="the cost of an answer of small is unknown"):
        tuned(folder, cost="cost")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": ()}, "`k` must have at least one value"),
        ({"k": (0,)}, "`k` must be at least 1"),
        ({"packers": ("best",)}, "`packers` must be one of 'evidence', 'greedy'"),
        ({"margin": 0}, "`margin`"),
        ({"cost": "joy"}, "`cost` must be one of"),
        ({"thresholds": (2,)}, "`threshold`"),
    ],
)
def test_bad_arguments(folder, options, message):
    with pytest.raises(ConfigurationError, match=message):
        tuned(folder, **options)


# The choice


def table(right, cost):
    n = len(right)
    single = TunedSettings(models=("m",), k=1, context_tokens=(None,), packer="evidence", threshold=None)
    return Table(single, np.array(right, bool), np.full(n, float(cost)), np.zeros(n))


@max_examples(50)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 5)), min_size=1, max_size=8), st.integers(0, 99))
def test_the_bound_is_at_most_the_margin_and_the_choice_costs_no_more(points, seed):
    random = np.random.default_rng(seed)
    n = 120
    tables = [table(random.random(n) >= loss, cost) for loss, cost in points] + [table([True] * n, 3.0)]
    order = random.permutation(n)
    chosen, bound = choose(tables, len(points), order[:60], order[60:], 0.1, 0.1)
    assert 0 <= bound <= 0.1
    assert tables[chosen].cost.mean() <= 3.0
    lost = int((~tables[chosen].right[order[60:]]).sum())
    assert chosen == len(points) or bound == clopper_pearson_upper(lost, 60, 0.1)


def test_the_bound_holds_in_most_splits():
    """A point that loses more than the margin is chosen in at most a tenth of the splits."""
    wrong = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        tables = [table(random.random(200) >= 0.1, 1.0 + i / 50) for i in range(20)] + [table([True] * 200, 3.0)]
        order = random.permutation(200)
        wrong += choose(tables, 20, order[:100], order[100:], 0.1, 0.1)[0] != 20
    assert wrong <= 0.1 * 200 + 2 * np.sqrt(200 * 0.1 * 0.9)


# The file


def test_settings_are_stored_and_opened(tmp_path):
    chosen = TunedSettings(models=("a", "b"), k=5, context_tokens=(200, "auto"), packer="greedy", threshold=0.4)
    chosen.save(tmp_path / "settings.json")
    assert read_settings(tmp_path / "settings.json") == chosen
    arguments = chosen.arguments()
    assert isinstance(arguments["model"], Cascade)
    assert (arguments["model"].threshold, arguments["k"], arguments["context_tokens"]) == (0.4, 5, "auto")
    assert arguments["model"].context_tokens == [200, None]
    assert isinstance(arguments["packer"], leanrag.evidence.GreedyPacker)


@pytest.mark.slow
def test_a_folder_is_opened_with_the_settings(folder, tmp_path):
    result = tuned(folder, context_tokens=(100, 300))
    path = tmp_path / "settings.json"
    result.settings.save(path)
    one = model("large", wrong=lambda n: False)
    named = TunedSettings(models=("large",), k=3, context_tokens=(300,), packer="evidence", threshold=None)
    assert read_settings(path) == named
    one_run = {"embedder": HashEmbedder(), "create": False}
    with leanrag.open(folder, **named.arguments([one]), **one_run) as rag:
        assert "Ada Park" in rag.ask(ROWS[0][0]).text
    with pytest.raises(ConfigurationError, match="'large' is not an existing path and not a known model"):
        leanrag.open(folder, config=path, **one_run).ask(ROWS[0][0])
    with pytest.raises(ConfigurationError, match="`config` sets `model` and `k`"):
        leanrag.open(folder, config=named, model=one, k=3, **one_run)


@pytest.mark.slow
def test_each_model_of_a_cascade_reads_its_own_number_of_tokens(folder):
    result = tuned(folder, context_tokens=(20, 300))
    assert (result.runs, len(result.points)) == (4, 4 + 4 * 19)
    wanted = (20, 300)
    point = next(p for p in result.points if p.settings.context_tokens == wanted and p.settings.threshold == 0.5)
    with leanrag.open(folder, embedder=HashEmbedder(), **point.settings.arguments(models())) as rag:
        asked = run(rag, ROWS)
    assert point.cost == np.mean([outcome.answer.usage.prompt_tokens for outcome in asked.outcomes])


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"k": -5}, r"k: Input should be greater than or equal to 1, got -5"),
        ({"k": "ten"}, r"k: Input should be a valid integer, got 'ten'"),
        ({"models": []}, r"models: .*at least 1 item"),
        ({"models": ["a", "a"]}, r"models: .*names must differ, got \('a', 'a'\)|models: .*names must differ"),
        ({"models": ["a", "b", "c"]}, r"models: .*at most 2 items"),
        ({"packer": "best"}, r"packer: Input should be 'evidence' or 'greedy', got 'best'"),
        ({"threshold": 2}, r"threshold: Input should be less than or equal to 1, got 2"),
        ({"threshold": None}, r"threshold: .*must be a number if there are two models"),
        ({"context_tokens": [1]}, r"context_tokens: .*as many values as there are models, which is 2"),
        ({"context_tokens": ["auto", None]}, r"context_tokens: .*must not have both"),
        ({"context_tokens": 300}, r"context_tokens: Input should be a valid (tuple|array|list), got 300"),
        ({"budget": 300}, r"budget: Extra inputs are not permitted, got 300"),
        ({"version": 2}, r"version 2, but this version of leanrag reads version 1"),
        ({"format": "settings"}, r"its field `format` is not 'leanrag settings'"),
    ],
)
def test_settings_edited_into_nonsense_name_the_field_and_the_file(tmp_path, edit, named):
    path = tmp_path / "settings.json"
    TunedSettings(models=("a", "b"), k=5, context_tokens=(100, 300), packer="evidence", threshold=0.5).save(path)
    fields = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(fields | {"k": 7}), encoding="utf-8")
    assert read_settings(path).k == 7  # an edit that makes sense is allowed
    path.write_text(json.dumps(fields | edit), encoding="utf-8")
    with pytest.raises(StorageError, match=rf"settings\.json.*{named}.*[Tt]une again"):
        leanrag.open(tmp_path / "kb", config=path)
    assert not (tmp_path / "kb").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text):
    path = tmp_path / "settings.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StorageError, match=r"settings\.json.*Correct the file, or tune again"):
        leanrag.open(tmp_path / "kb", config=path)
    with pytest.raises(StorageError, match=r"cannot read the configuration file .*missing\.json"):
        leanrag.open(tmp_path / "kb", config=tmp_path / "missing.json")
