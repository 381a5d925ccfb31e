"""Layers on GPUs: never more than fits, and what was asked for that cannot be is said before anything is loaded."""

import logging
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leanrag import ConfigurationError, GenerationError, LlamaCppModel, ModelLoadError
from leanrag.llama import ComputeOptions
from leanrag.llama.engine import Engine
from leanrag.llama.files import check_gguf
from leanrag.llama.library import Device, compiled_backends, library
from leanrag.llama.placement.layers import (
    CPU_ONLY,
    GpuOptions,
    ModelSizes,
    check_gpu_options,
    gpu_devices,
    measure_sizes,
    place,
    share,
)
from leanrag.llama.requests import Request
from leanrag.llama.sampling import Sampler, SamplingOptions
from leanrag.llama.settings import EngineSettings
from leanrag.llama.weights import Weights

MIB = 2**20
AUTO = GpuOptions("auto")
NONE = ()


def gpu(free: int, total: int | None = None, name: str = "CUDA0") -> Device:
    return Device(name, "a GPU", "gpu", free, free if total is None else total)


def equal(n: int, *, layer: int = 100 * MIB, cache: int = 10 * MIB, scratch: int = 50 * MIB) -> ModelSizes:
    """`n` layers and an output layer without a cache."""
    return ModelSizes((layer,) * (n + 1), (*[cache] * n, 0), 30 * MIB, scratch, (layer // 2,) * (n + 1))


sizes = st.integers(0, 500).map(lambda n: n * MIB)
models = st.integers(1, 12).flatmap(
    lambda n: st.builds(
        lambda layers, cache, scratch: ModelSizes(
            tuple(layers), (*cache, 0), MIB, scratch, tuple(size // 2 for size in layers)
        ),
        st.lists(sizes.filter(bool), min_size=n + 1, max_size=n + 1),
        st.lists(sizes, min_size=n, max_size=n),
        sizes,
    )
)
devices = st.lists(st.integers(0, 8000).map(lambda n: gpu(n * MIB)), min_size=1, max_size=4)
splits = st.sampled_from(["layer", "row", "none"])


# The arithmetic


@given(models, devices, splits)
def test_what_is_chosen_fits_on_every_gpu(model, gpus, split):
    placement = place(model, gpus, GpuOptions("auto", split))
    assert all(part.size_bytes <= max(0, part.free_bytes - 256 * MIB) for part in placement.devices)
    assert sum(part.layers for part in placement.devices) == placement.layers <= placement.n_layers


@given(models, devices, st.lists(st.floats(0, 10), min_size=4, max_size=4))
def test_so_it_does_in_proportions(model, gpus, proportions):
    proportions = tuple(proportions[: len(gpus)])
    assume(sum(proportions) > 1e-6)
    for split in ("layer", "row"):
        placement = place(model, gpus, GpuOptions("auto", split, proportions))
        assert all(part.size_bytes <= part.free_bytes for part in placement.devices)
        assert placement.tensor_split == (proportions if placement.layers else ())


@given(models, devices, st.integers(0, 3), st.integers(0, 4000))
def test_more_memory_never_means_fewer_layers(model, gpus, which, more):
    for split in ("layer", "none"):
        options = GpuOptions("auto", split)
        before = place(model, gpus, options).layers
        grown = list(gpus)
        grown[which % len(gpus)] = gpu(grown[which % len(gpus)].free_bytes + more * MIB)
        assert place(model, grown, options).layers >= before
    assert place(model, [*gpus, gpu(9000 * MIB)], AUTO).layers >= place(model, gpus, AUTO).layers


@given(models)
def test_all_layers_when_they_fit_and_none_when_not_one_does(model):
    needed = sum(model.layers) + sum(model.cache) + model.scratch
    enough = gpu(needed + 256 * MIB, total=needed + 256 * MIB)
    assume(enough.total_bytes // 50 <= 256 * MIB)
    assert place(model, [enough], AUTO).layers == len(model.layers)
    assert place(model, [enough], AUTO).devices[0].size_bytes == needed
    least = model.layers[-1] + model.scratch + 256 * MIB
    assert place(model, [gpu(least - 1)], AUTO).layers == 0
    assert place(model, [gpu(least)], AUTO).layers >= 1


def test_layer_by_layer_from_the_end():
    model = equal(10)  # 110 MiB a layer, 100 for the output layer, 50 of scratch
    for n in range(1, 12):
        needed = 100 + 110 * (n - 1) + 50 + 256
        assert place(model, [gpu(needed * MIB)], AUTO).layers == n
        assert place(model, [gpu(needed * MIB - 1)], AUTO).layers == n - 1


def test_one_gpu_is_filled_after_another():
    model = equal(10)
    room = (256 + 50 + 4 * 110) * MIB
    placement = place(model, [gpu(room), gpu(room, name="CUDA1"), gpu(room, name="CUDA2")], AUTO)
    assert [part.layers for part in placement.devices] == [4, 4, 3]
    assert placement.tensor_split == (4.0, 4.0, 3.0)
    assert [part.size_bytes // MIB for part in placement.devices] == [490, 490, 2 * 110 + 100 + 50]
    assert (placement.layers, placement.reason) == (11, "all of them fit")
    large = place(model, [gpu(9000 * MIB), gpu(9000 * MIB)], AUTO)
    assert [part.layers for part in large.devices] == [11, 0]
    assert large.devices[1].size_bytes == 0
    assert str(large) == "11 of 11 layers on GPUs (CUDA0: 11 layers, 1,250 MiB; all of them fit)"


def test_rows_are_spread_by_the_proportions():
    placement = place(equal(3), [gpu(9000 * MIB), gpu(9000 * MIB)], GpuOptions(-1, "row", (1.0, 3.0)))
    # The first of four layers, half of which is rows: what is not rows, its cache, and a quarter of all rows.
    assert placement.devices[0].size_bytes == (50 + 10 + 4 * 50 // 4 + 50) * MIB
    assert placement.devices[1].size_bytes == (3 * 50 + 2 * 10 + 4 * 50 * 3 // 4 + 50) * MIB


@given(st.integers(1, 40), st.lists(st.floats(0, 100, width=32), min_size=1, max_size=6))
def test_proportions_cut_the_layers_as_llama_cpp_does(n, proportions):
    assume(sum(proportions) > 0.01)
    model = equal(n, layer=1, cache=0, scratch=0)
    gpus = [gpu(10**9, name=f"CUDA{i}") for i in range(len(proportions))]
    placement = place(model, gpus, GpuOptions(-1, "layer", tuple(proportions)))
    ends, total = [], np.float32(0)
    for value in proportions:  # llama-model.cpp, load_tensors
        total = np.float32(total + np.float32(value))
        ends.append(total)
    ends = [np.float32(end / total) for end in ends]
    expected = [0] * len(proportions)
    for layer in range(n + 1):
        share_of_layer = np.float32(np.float32(layer) / np.float32(n + 1))
        expected[next(i for i, end in enumerate(ends) if end > share_of_layer)] += 1
    assert [part.layers for part in placement.devices] == expected


def test_one_gpu_of_several():
    placement = place(equal(3), [gpu(0), gpu(9000 * MIB, name="CUDA1")], GpuOptions("auto", main_gpu=1))
    assert (placement.layers, placement.split, placement.main_gpu) == (4, "none", 1)
    assert [part.name for part in placement.devices] == ["CUDA1"]


def test_a_number_that_does_not_fit_says_what_it_takes_and_what_fits():
    with pytest.raises(ConfigurationError) as caught:
        place(equal(10), [gpu(700 * MIB)], GpuOptions(-1))
    assert "`gpu.layers` is -1, 11 of 11 layers" in str(caught.value)
    assert "CUDA0 needs about 1,250 MiB and has 700 free" in str(caught.value)
    assert "layers=3" in str(caught.value)  # 256 + 50 + 100 + 2 * 110
    assert place(equal(10), [gpu(700 * MIB)], GpuOptions(5)).layers == 5  # without the margin
    assert place(equal(10), [gpu(9000 * MIB)], GpuOptions(99)).layers == 11


def test_where_there_is_no_gpu_the_cpu_computes():
    assert place(equal(3), [], AUTO).layers == 0
    assert place(equal(3), [], AUTO).reason == "there is no GPU"
    assert place(equal(3), [gpu(9000 * MIB)], GpuOptions(0)).devices == ()


def test_another_window_on_weights_that_are_there():
    model, gpus = equal(10), [gpu(9000 * MIB)]
    loaded = place(model, gpus, AUTO)
    rest = [gpu(200 * MIB, 9000 * MIB)]
    assert place(model, rest, AUTO).layers == 0
    again = share(model, rest, AUTO, loaded)
    assert (again.key, again.devices[0].size_bytes) == (loaded.key, 150 * MIB)
    assert share(model, [gpu(100 * MIB)], AUTO, loaded) is None
    assert share(model, rest, GpuOptions(3), loaded) is None
    assert share(model, rest, GpuOptions("auto", "none"), loaded) is None


# Devices


def test_integrated_gpus_only_without_others_and_with_the_memory_of_the_host():
    cpu = Device("CPU", "a processor", "cpu", 1, 2)
    own, unknown = gpu(5), Device("Vulkan0", "no GPU of its own", "igpu", 0, 0)
    assert gpu_devices([cpu, unknown, own]) == [own]
    (shared,) = gpu_devices([cpu, unknown])
    assert shared.free_bytes == shared.total_bytes > MIB
    assert gpu_devices([cpu]) == []


def test_a_gpu_of_its_own_that_does_not_tell_has_nothing_to_give():
    silent = Device("CUDA0", "a GPU whose memory others took", "gpu", 0, 0)
    assert gpu_devices([silent]) == [silent]
    assert place(equal(4), [silent], AUTO).layers == 0


# What was asked for


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (GpuOptions(-2), "`gpu.layers` must be 'auto', -1"),
        (GpuOptions("all"), "`gpu.layers` must be 'auto'"),
        (GpuOptions(True), "`gpu.layers` must be 'auto'"),
        (GpuOptions(2.5), "`gpu.layers` must be 'auto'"),
        (GpuOptions("auto", "column"), "`gpu.split` must be"),
        (GpuOptions("auto", None, ()), "`gpu.tensor_split` must be proportions"),
        (GpuOptions("auto", None, (0.0, 0.0)), "not all of them 0"),
        (GpuOptions("auto", None, (1.0, -1.0)), "at least 0"),
        (GpuOptions("auto", None, (1.0, math.inf)), "`gpu.tensor_split` must be proportions"),
        (GpuOptions("auto", None, (1.0, 1e39)), "`gpu.tensor_split` must be proportions"),
        (GpuOptions("auto", None, (0.0, 1e-60)), "not all of them 0"),
        (GpuOptions("auto", None, ("a", 1.0)), "`gpu.tensor_split` must be proportions"),
        (GpuOptions("auto", None, (1.0,)), r"each of the 2 GPUs \(CUDA0, CUDA1\), got 1"),
        (GpuOptions("auto", "row", (1.0, 1.0, 1.0)), "each of the 2 GPUs"),
        (GpuOptions("auto", "none", (1.0, 1.0)), "on one GPU"),
        (GpuOptions("auto", None, (1.0, 1.0), 0), "on one GPU"),
        (GpuOptions("auto", "row", None, 0), "`gpu.main_gpu` needs `split` 'none'"),
        (GpuOptions("auto", None, None, 2), "`gpu.main_gpu` must be from 0 to 1"),
        (GpuOptions("auto", None, None, -1), "`gpu.main_gpu` must be from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        check_gpu_options(options, [gpu(1), gpu(1, name="CUDA1")], lambda: NONE)


@pytest.mark.parametrize(
    "options",
    [
        AUTO,
        GpuOptions(0),
        GpuOptions(-1, "row", (0.0, 2.0)),
        GpuOptions(3, "none"),
        GpuOptions("auto", None, None, 1),
        GpuOptions("auto", "none", None, 0),
    ],
)
def test_what_can_be_is_not(options):
    check_gpu_options(options, [gpu(1), gpu(1, name="CUDA1")], lambda: NONE)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (GpuOptions(-1), "`gpu.layers` is -1"),
        (GpuOptions("auto", "row"), "`gpu.split` is 'row'"),
        (GpuOptions("auto", None, (1.0,)), r"`gpu.tensor_split` is \[1.0\]"),
        (GpuOptions("auto", None, None, 0), "`gpu.main_gpu` is 0"),
    ],
)
def test_without_a_gpu_it_says_whether_build_or_machine_has_none(options, named):
    with pytest.raises(ConfigurationError, match=f"{named}, but this build of llama.cpp computes on the CPU only"):
        check_gpu_options(options, [], lambda: NONE)
    with pytest.raises(ConfigurationError, match=rf"{named}, and .*\(cuda\) sees no GPU.*CUDA_VISIBLE_DEVICES"):
        check_gpu_options(options, [], lambda: ("cuda",))
    check_gpu_options(GpuOptions("auto"), [], lambda: NONE)
    check_gpu_options(GpuOptions(0), [], lambda: ("cuda",))


@pytest.mark.parametrize("options", [{"split": "row"}, {"tensor_split": [1, 1]}, {"main_gpu": 0}, {"layers": -1}])
def test_this_build_refuses_before_it_loads(tiny_gguf, options):
    if set(compiled_backends()) != {"cpu"}:
        pytest.skip("this build has a GPU")
    with pytest.raises(ConfigurationError, match="computes on the CPU only"):
        LlamaCppModel(tiny_gguf, gpu=GpuOptions(**options))


# Sizes of a file


def test_the_sizes_of_a_file_are_those_of_its_tensors(tiny_gguf):
    info = check_gguf(tiny_gguf)
    model = measure_sizes(info, n_ctx=256, n_batch=64)
    assert sum(model.layers) + model.host == sum(info.tensor_bytes.values())
    assert len(model.layers) == len(model.cache) == 2
    assert model.host == info.tensor_bytes["token_embd.weight"]
    assert model.layers[1] == info.tensor_bytes["output.weight"] + info.tensor_bytes["output_norm.weight"]
    assert model.spread[1] == info.tensor_bytes["output.weight"]
    assert model.cache == (2 * 2 * 32 * 256, 0)  # two bytes, keys and values, a width of 32, 256 cells
    tied = {name: size for name, size in info.tensor_bytes.items() if name != "output.weight"}
    assert measure_sizes(replace(info, tensor_bytes=tied), n_ctx=256, n_batch=64).layers[1] == (
        model.host + info.tensor_bytes["output_norm.weight"]
    )


# Loading


@pytest.fixture
def file(tiny_gguf, tmp_path):
    """A file that no other test has loaded."""
    return shutil.copy(tiny_gguf, tmp_path / "own.gguf")


def settings(gpu_options: GpuOptions, **more) -> EngineSettings:
    compute = ComputeOptions(64, flash_attn=True, kv_type="f16")
    return EngineSettings(256, 1, gpu=gpu_options, compute=compute, max_queue=8, parallel=2, cache_bytes=0, **more)


def ask(engine: Engine) -> tuple[int, ...]:
    request = Request([1, 70, 71], max_tokens=4, choose=Sampler(SamplingOptions()))
    return engine.submit(request).result.token_ids


def test_an_engine_says_what_it_chose(file, caplog):
    with caplog.at_level(logging.INFO, "leanrag.llama.loading"):
        engine = Engine(file, settings(AUTO), devices=lambda: [gpu(9000 * MIB)])
    try:
        assert (engine.placement.layers, engine.placement.n_layers) == (2, 2)
        assert caplog.text.count("2 of 2 layers on GPUs (CUDA0: 2 layers") == 1
        assert engine._context.worth_keeping == 256 // 4  # a quarter of the window, for so small a model
        assert len(ask(engine)) == 4
    finally:
        engine.close()


def test_plain_attention_on_a_gpu_computes_few_requests_at_once(file):
    at_work = []
    with_many = replace(settings(AUTO), parallel=40, max_queue=100, compute=ComputeOptions(64, False, "f16"))
    engine = Engine(file, with_many, devices=lambda: [gpu(9000 * MIB)])
    try:
        step = engine._step
        engine._step = lambda: at_work.append(len(engine._runs)) or step()
        requests = [Request([1, 70 + i], max_tokens=4, choose=Sampler(SamplingOptions())) for i in range(40)]
        with engine._wake:  # all wait before the owner looks
            for request in requests:
                engine.submit(request)
        assert [len(request.result.token_ids) for request in requests] == [4] * 40
        assert max(at_work) == 32
    finally:
        engine.close()


def test_a_load_that_fails_is_tried_with_half_the_layers_and_with_none(file, monkeypatch, caplog):
    lib, refusals = library(), [True]
    init = lib.llama_init_from_model
    monkeypatch.setattr(lib, "llama_init_from_model", lambda *args: None if refusals.pop() else init(*args))
    refusals[:] = [False, True]
    engine = Engine(file, settings(AUTO), devices=lambda: [gpu(9000 * MIB)])
    try:
        assert (engine.placement.layers, engine.placement.reason) == (1, "fewer, after a failure")
        assert "trying 1 of 2 layers" in caplog.text
        assert len(ask(engine)) == 4
    finally:
        engine.close()
    refusals[:] = [False, True, True]
    engine = Engine(file, settings(AUTO), devices=lambda: [gpu(9000 * MIB)])
    try:
        assert engine.placement.layers == 0
        assert len(ask(engine)) == 4
    finally:
        engine.close()
    refusals[:] = [True] * 3
    with pytest.raises(ModelLoadError, match="cannot make a context"):
        Engine(file, settings(AUTO), devices=lambda: [gpu(9000 * MIB)])
    assert not refusals
    refusals[:] = [True]
    with pytest.raises(ModelLoadError, match=r"cannot make a context.*the planned placement was 2 of 2 layers on GPUs"):
        Engine(file, settings(GpuOptions(2)), devices=lambda: [gpu(9000 * MIB)])
    assert not refusals
    assert Weights.find_placement(file) is None  # nothing stays behind


def test_a_number_that_does_not_fit_loads_nothing(file, monkeypatch):
    monkeypatch.delattr(library(), "llama_model_load_from_file")
    with pytest.raises(ConfigurationError, match=r"CUDA0 needs about . MiB and has 0 free"):
        Engine(file, settings(GpuOptions(-1)), devices=lambda: [gpu(1000)])


def test_two_engines_on_one_file_share_its_weights(file):
    free = iter([9000 * MIB, 300 * MIB])
    first = Engine(file, settings(AUTO), devices=lambda: [gpu(next(free))])
    second = Engine(file, settings(AUTO), devices=lambda: [gpu(next(free))])
    try:
        assert first._model.weights is second._model.weights
        assert second.placement.reason == "the weights were there already"
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize("keep_alive", [None, 600.0])
def test_a_context_that_was_lost_comes_back_with_the_next_request(file, monkeypatch, keep_alive):
    lib = library()
    engine = Engine(file, settings(AUTO, keep_alive=keep_alive), devices=lambda: [gpu(9000 * MIB)])
    try:
        expected = ask(engine)
        with monkeypatch.context() as patch:
            patch.setattr(lib, "llama_decode", lambda *_: -3)
            with pytest.raises(GenerationError, match="failed with code -3"):
                ask(engine)
        with monkeypatch.context() as patch:
            patch.setattr(lib, "llama_init_from_model", lambda *_: None)
            with pytest.raises(ModelLoadError, match="cannot make a context"):
                ask(engine)
        assert ask(engine) == expected
    finally:
        engine.close()


def test_no_layers_means_that_llama_cpp_is_given_no_gpu(file, monkeypatch):
    lib, seen = library(), []
    load = lib.llama_model_load_from_file

    def note(path, parameters):
        seen.append((parameters.n_gpu_layers, bool(parameters.devices)))
        return load(path, parameters)

    monkeypatch.setattr(lib, "llama_model_load_from_file", note)
    for options in (GpuOptions(0), AUTO):
        Engine(file, settings(options), devices=lambda: [gpu(9000 * MIB)]).close()
    assert seen == [(0, True), (2, False)]
    assert CPU_ONLY.key == ()
