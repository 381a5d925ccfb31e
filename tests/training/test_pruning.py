import pytest

torch = pytest.importorskip("torch")

from benchmarks.models.tiny import write_model  # noqa: E402
from leanrag.errors import ConfigurationError  # noqa: E402
from leanrag.training.base import load_decoder  # noqa: E402
from leanrag.training.loop import evaluate_rows, train_rows  # noqa: E402
from leanrag.training.lora import add_lora  # noqa: E402
from leanrag.training.pruning import least_needed_layer, prune_in_steps, remove_layers  # noqa: E402
from leanrag.training.teacher import add_teacher_logits  # noqa: E402


@pytest.fixture
def layered(tmp_path):
    return load_decoder(write_model(tmp_path / "layered.gguf", "llama"))


def test_the_least_needed_layer_costs_least(layered, make_rows):
    rows = make_rows(12)
    number, loss = least_needed_layer(layered, rows)
    losses = []
    for i in range(len(layered.layers)):
        layers = layered.layers
        layered.layers = torch.nn.ModuleList(layer for j, layer in enumerate(layers) if j != i)
        losses.append(evaluate_rows(layered, rows)[0])
        layered.layers = layers
    assert loss == min(losses) == losses[number]
    assert len(layered.layers) == 2


@pytest.mark.slow
def test_removed_layers_are_numbered_as_in_the_whole_model(layered, make_rows, quick_options):
    rows = make_rows(16)
    add_lora(layered, rank=2, alpha=4)
    steps = prune_in_steps(layered, [1], rows, lambda model, _: train_rows(model, rows, rows[:8], quick_options))
    assert len(layered.layers) == 1
    assert steps[0].removed in [(0,), (1,)]
    assert steps[0].result.steps == steps[0].result.planned_steps


@pytest.mark.parametrize("numbers", [[0, 1], [2], [0, 0], [-1]])
def test_wrong_layers_are_refused(layered, numbers):
    with pytest.raises(ConfigurationError, match="must be some, not all, of 0 to 1"):
        remove_layers(layered, numbers)


def test_the_logits_of_a_teacher_are_its_most_probable_tokens(layered, make_rows):
    rows = make_rows(5)
    labelled = add_teacher_logits(layered, rows, k=4, temperature=2.0)
    row = labelled[3]
    assert [each.prompt for each in labelled] == [each.prompt for each in rows]
    with torch.no_grad():
        logits = layered.logits(layered.hidden(torch.tensor([[*row.prompt, *row.reply]])))[0, len(row.prompt) - 1]
    top = (logits / 2).log_softmax(-1).topk(4)
    assert row.teacher.tokens[0].tolist() == top.indices.tolist()
    assert row.teacher.logprobs[0] == pytest.approx(top.values.tolist(), abs=1e-4)
