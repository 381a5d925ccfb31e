import dataclasses
import random
import signal
import sys

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from leanrag.errors import ConfigurationError, StorageError, TrainingError  # noqa: E402
from leanrag.stopping import Terminated, stopping_on_sigterm  # noqa: E402
from leanrag.training.base import load_decoder  # noqa: E402
from leanrag.training.encoding import EncodedRow  # noqa: E402
from leanrag.training.loop import evaluate_rows, plan_batches, train_rows  # noqa: E402
from leanrag.training.lora import add_lora, lora_layers  # noqa: E402
from leanrag.training.options import TrainingOptions  # noqa: E402


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def student(tiny_gguf):
    def make():
        model = load_decoder(tiny_gguf)
        add_lora(model, rank=4, alpha=8, seed=1)
        return model

    return make


def parameters_of(model):
    return [tensor.detach().clone() for _, layer in lora_layers(model) for tensor in (layer.a, layer.b)]


@pytest.mark.slow
def test_it_learns(student, make_rows, quick_options):
    model, rows, development = student(), make_rows(120), make_rows(40, seed=9)
    before, _ = evaluate_rows(model, development)
    result = train_rows(model, rows, development, quick_options)
    after, exact = evaluate_rows(model, development)
    assert after == pytest.approx(result.best.loss)
    assert after < before - 0.5
    assert exact == result.best.exact
    assert result.steps == result.planned_steps == 45


@pytest.mark.slow
def test_only_the_adapter_changes(student, make_rows, quick_options, decoder):
    model = student()
    train_rows(model, make_rows(24), make_rows(8, seed=9), quick_options)
    assert torch.equal(model.token_embd, decoder.token_embd)
    assert torch.equal(model.layers[0].attn_q.base.weight, decoder.layers[0].attn_q.weight)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.slow
def test_killed_at_random_steps_it_ends_with_the_same_parameters(student, make_rows, quick_options, tmp_path, seed):
    rows, development = make_rows(60), make_rows(16, seed=9)
    whole = student()
    expected = train_rows(whole, rows, development, quick_options)
    source = random.Random(seed)

    def perhaps_die(step, planned):
        if step < planned and (source.random() < 0.2 or not deaths):
            raise Killed

    deaths = 0
    while True:
        model = student()
        try:
            result = train_rows(
                model, rows, development, quick_options, checkpoint=tmp_path / "checkpoint", on_step=perhaps_die
            )
            break
        except Killed:
            deaths += 1
    assert deaths
    assert result.evaluations == expected.evaluations
    assert all(map(torch.equal, parameters_of(model), parameters_of(whole)))


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM")
@pytest.mark.slow
def test_sigterm_saves_the_step_under_way(student, make_rows, quick_options, tmp_path):
    arguments = make_rows(60), make_rows(16, seed=9), dataclasses.replace(quick_options, checkpoint_steps=1000)
    whole = student()
    expected = train_rows(whole, *arguments)
    steps = []

    def stop_at_seven(step, _):
        steps.append(step)
        if step == 7:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated), stopping_on_sigterm(most_seconds=300):
        train_rows(student(), *arguments, checkpoint=tmp_path / "checkpoint", on_step=stop_at_seven)
    again = student()
    result = train_rows(again, *arguments, checkpoint=tmp_path / "checkpoint", on_step=stop_at_seven)
    assert steps == list(range(1, expected.steps + 1))  # no step twice
    assert result.evaluations == expected.evaluations
    assert all(map(torch.equal, parameters_of(again), parameters_of(whole)))


def test_a_finished_training_is_not_done_again(student, make_rows, quick_options, tmp_path):
    arguments = make_rows(24), make_rows(8, seed=9), quick_options
    first = train_rows(student(), *arguments, checkpoint=tmp_path / "checkpoint")
    steps = []
    again = train_rows(
        student(), *arguments, checkpoint=tmp_path / "checkpoint", on_step=lambda step, _: steps.append(step)
    )
    assert again.evaluations == first.evaluations
    assert not steps


def test_a_checkpoint_of_other_data_is_refused(student, make_rows, quick_options, tmp_path):
    train_rows(student(), make_rows(24), make_rows(8, seed=9), quick_options, checkpoint=tmp_path / "checkpoint")
    with pytest.raises(ConfigurationError, match="other data or options"):
        train_rows(student(), make_rows(25), make_rows(8, seed=9), quick_options, checkpoint=tmp_path / "checkpoint")


def test_a_checkpoint_of_another_beginning_is_refused(student, make_rows, quick_options, tmp_path):
    arguments = make_rows(24), make_rows(8, seed=9), quick_options
    train_rows(student(), *arguments, checkpoint=tmp_path / "checkpoint")
    other = student()
    with torch.no_grad():
        next(lora_layers(other))[1].b.fill_(0.1)
    with pytest.raises(ConfigurationError, match="other data or options"):
        train_rows(other, *arguments, checkpoint=tmp_path / "checkpoint")


@pytest.mark.slow
def test_on_a_full_disk_the_last_checkpoint_remains(student, make_rows, quick_options, tmp_path):
    resource = pytest.importorskip("resource")
    arguments, checkpoint = (make_rows(60), make_rows(16, seed=9), quick_options), tmp_path / "checkpoint"
    expected = train_rows(student(), *arguments)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk(step, _planned):
        if step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    try:
        with pytest.raises(StorageError, match=r"cannot write .*free space"):
            train_rows(student(), *arguments, checkpoint=checkpoint, on_step=fill_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    steps = []
    result = train_rows(student(), *arguments, checkpoint=checkpoint, on_step=lambda step, _: steps.append(step))
    assert steps[0] == 5  # the checkpoint of step 4 was good
    assert result.evaluations == expected.evaluations


def test_a_damaged_checkpoint_is_named(student, make_rows, quick_options, tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"nothing")
    with pytest.raises(StorageError, match="is damaged"):
        train_rows(student(), make_rows(24), make_rows(8, seed=9), quick_options, checkpoint=tmp_path / "checkpoint")


@pytest.mark.slow
def test_smaller_parts_change_nothing(student, make_rows, quick_options):
    rows, development = make_rows(24), make_rows(8, seed=9)
    small = dataclasses.replace(quick_options, batch_tokens=12)
    results = [train_rows(student(), rows, development, options) for options in (quick_options, small)]
    assert results[0].best.loss == pytest.approx(results[1].best.loss, rel=1e-3)


def test_layers_that_are_computed_again_change_nothing(student, make_rows, quick_options):
    rows, development = make_rows(24), make_rows(8, seed=9)
    again = dataclasses.replace(quick_options, checkpoints_layers=True)
    results = [train_rows(student(), rows, development, options) for options in (quick_options, again)]
    assert results[0].best.loss == pytest.approx(results[1].best.loss, rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.slow
def test_it_learns_in_each_precision(student, make_rows, quick_options, precision):
    model, development = student(), make_rows(16, seed=9)
    before, _ = evaluate_rows(model, development)
    options = dataclasses.replace(quick_options, precision=precision)
    assert train_rows(model, make_rows(60), development, options).best.loss < before


def test_it_stops_early_and_keeps_the_best(student, make_rows, quick_options):
    options = dataclasses.replace(quick_options, learning_rate=0.4, epochs=40, evaluations=60, patience=2)
    model, development = student(), make_rows(16, seed=9)
    result = train_rows(model, make_rows(16), development, options)
    assert result.steps < result.planned_steps
    assert result.best.loss == min(evaluation.loss for evaluation in result.evaluations)
    assert evaluate_rows(model, development)[0] == pytest.approx(result.best.loss)


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_stops_it(student, make_rows, quick_options, tmp_path):
    model = student()
    steps = []

    def poison(step, _planned):
        steps.append(step)
        if step == 5:
            with torch.no_grad():
                next(lora_layers(model))[1].a.fill_(float("nan"))

    with pytest.raises(TrainingError, match="step 5: the loss is nan") as caught:
        train_rows(
            model,
            make_rows(60),
            make_rows(8, seed=9),
            quick_options,
            checkpoint=tmp_path / "checkpoint",
            on_step=poison,
        )
    assert caught.value.step == 5
    result = train_rows(
        student(), make_rows(60), make_rows(8, seed=9), quick_options, checkpoint=tmp_path / "checkpoint"
    )
    assert result.steps == result.planned_steps  # the checkpoint was good


def test_memory_of_the_gpu_halves_the_parts(student, make_rows, quick_options, monkeypatch):
    from leanrag.training import loop

    sizes = []

    def limited(model, rows, **options):
        sizes.append(len(rows))
        if len(rows) > 3:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return whole(model, rows, **options)

    whole = loop.loss_of_batch
    monkeypatch.setattr(loop, "loss_of_batch", limited)
    options = dataclasses.replace(quick_options, batch_tokens=64)
    result = train_rows(student(), make_rows(24), make_rows(3, seed=9), options)
    assert result.steps == result.planned_steps
    assert max(sizes) > 3
    assert result.batch_tokens < 64


def test_one_row_that_does_not_fit_is_an_error(student, make_rows, quick_options, monkeypatch):
    from leanrag.training import loop

    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(loop, "loss_of_batch", full)
    with pytest.raises(TrainingError, match="does not fit into the memory of the GPU"):
        train_rows(student(), make_rows(24), make_rows(3, seed=9), quick_options)


def test_no_rows_are_refused(student, make_rows, quick_options):
    with pytest.raises(ConfigurationError, match="got 0 and 3"):
        train_rows(student(), [], make_rows(3), quick_options)


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", 0.0), ("epochs", 0), ("alpha", 1.5), ("precision", "int8"), ("patience", 0)]
)
def test_wrong_options_are_refused(name, value):
    with pytest.raises(ConfigurationError, match=name):
        TrainingOptions(**{name: value})


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 3), st.integers(1, 50), st.integers(0, 5)
)
def test_each_row_is_seen_once_an_epoch(lengths, epochs, batch_rows, seed):
    batches = plan_batches(lengths, epochs=epochs, batch_rows=batch_rows, seed=seed)
    seen = sorted(i for batch in batches for i in batch)
    assert seen == sorted(list(range(len(lengths))) * epochs)
    assert all(1 <= len(batch) <= batch_rows for batch in batches)
    assert batches == plan_batches(lengths, epochs=epochs, batch_rows=batch_rows, seed=seed)


def test_a_teacher_pulls_towards_its_expectation(decoder):
    import numpy as np

    from leanrag.training.encoding import TeacherLogits
    from leanrag.training.losses import loss_of_batch

    row = EncodedRow((50, 51), (52,))
    with torch.no_grad():
        own = (decoder.logits(decoder.hidden(torch.tensor([[50, 51]])))[0, -1] / 2).log_softmax(-1)
    top = own.topk(8)
    same = TeacherLogits(top.indices[None].numpy().astype(np.int32), top.values[None].numpy())
    other = dataclasses.replace(same, tokens=same.tokens[:, ::-1].copy())

    def divergence(teacher):
        taught = dataclasses.replace(row, teacher=teacher)
        loss = loss_of_batch(decoder, [taught], alpha=0.25, temperature=2.0)
        return float((loss.total - 0.25 * loss.cross_entropy) / (0.75 * 4))

    assert divergence(same) == pytest.approx(0, abs=1e-4)
    assert divergence(other) > 0
