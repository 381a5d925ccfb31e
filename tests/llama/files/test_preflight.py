"""The values of a header are checked against each other, and models in several files are found by any of them."""

import random
import struct

import pytest

from benchmarks.models.files import Loader
from benchmarks.models.mutations import Parts, header_changes, random_change
from benchmarks.models.tiny import ARCHITECTURES, write_model
from leanrag import LlamaCppModel, ModelLoadError
from leanrag.llama.files import check_gguf


@pytest.fixture(scope="module")
def parts(tiny_gguf):
    return Parts.read(tiny_gguf.read_bytes())


def change(parts, tmp_path, values):
    """Write the model with changed values, and return the file."""
    changed = parts.copy()
    for key, value in values.items():
        changed.set(key.replace("*", "llama"), value)
    path = tmp_path / "changed.gguf"
    path.write_bytes(changed.write())
    return path


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"*.expert_used_count": 8}, "llama.expert_used_count is 8, but expert_count is 0"),
        ({"*.expert_count": 4, "*.expert_used_count": 5}, "llama.expert_used_count is 5, but expert_count is 4"),
        ({"*.expert_count": 4, "*.expert_used_count": [1, 9]}, "llama.expert_used_count is 9, but expert_count is 4"),
        ({"*.expert_count": 4}, "llama.expert_count is 4, but expert_used_count is 0"),
        ({"*.expert_count": 4, "*.expert_used_count": 0}, "llama.expert_count is 4, but expert_used_count is 0"),
        ({"*.expert_count": 2000, "*.expert_used_count": 1}, "llama.expert_count is 2000, not from 0 to 1,024"),
        ({"*.expert_group_count": 1}, "llama.expert_group_count is 1, but expert_count is 0"),
        (
            {"*.expert_count": 8, "*.expert_used_count": 2, "*.expert_group_count": 3, "*.expert_group_used_count": 1},
            "llama.expert_group_count is 3, but it does not divide expert_count, which is 8",
        ),
        (
            {"*.expert_count": 8, "*.expert_used_count": 2, "*.expert_group_count": 8},
            "llama.expert_group_count is 8, but expert_count is 8",
        ),
        (
            {"*.expert_count": 8, "*.expert_used_count": 2, "*.expert_group_count": 4},
            "llama.expert_group_used_count is 0, but expert_group_count is 4",
        ),
        (
            {"*.expert_count": 8, "*.expert_used_count": 2, "*.expert_group_count": 4, "*.expert_group_used_count": 4},
            "llama.expert_group_used_count is 4, but expert_group_count is 4",
        ),
        ({"*.embedding_length": 64}, "llama.embedding_length is 64, but token_embd.weight has rows of 32"),
        ({"*.nextn_predict_layers": 2}, "llama.nextn_predict_layers is 2, but there are only 1 layers"),
        ({"*.posnet.block_count": 3}, "llama.posnet.block_count is 3, but there are only 1 layers"),
        ({"*.rope.scaling.type": "dynamic"}, "is 'dynamic', but must be one of none, linear, yarn, longrope"),
        ({"*.rope.scaling.type": ""}, "llama.rope.scaling.type is ''"),
        ({"*.rope.dimension_count": 7}, "llama.rope.dimension_count is 7, but must be even, and from 2 to the size of a head, 16"),
        ({"*.rope.dimension_count": 0}, "llama.rope.dimension_count is 0, but must be even"),
        ({"*.rope.dimension_count": 18}, "rope.dimension_count is 18, but must be even, and from 2 to the size of a head, 16"),
        ({"*.attention.layer_norm_rms_epsilon": float("nan")}, "epsilon is nan, not a number of at least 0"),
        ({"*.attention.layer_norm_rms_epsilon": -1.0}, "epsilon is -1.0, not a number of at least 0"),
        ({"*.attention.head_count": [2, 4097]}, "llama.attention.head_count is [2, 4097], not from 0 to 4,096"),
        ({"*.attention.head_count_kv": 3}, "in layer 0, 3 key-value heads do not divide 2 heads"),
        ({"*.attention.head_count": [4], "*.attention.head_count_kv": [3]}, "in layer 0, 3 key-value heads do not divide 4 heads"),
        ({"*.attention.head_count_kv": [0]}, "layer 0 has attention, but no key-value heads"),
        ({"*.feed_forward_length": [2**25]}, "llama.feed_forward_length is [33554432], not from 0 to 16,777,216"),
        ({"*.block_count": True}, "llama.block_count is True, not from 1 to 512"),
        ({"tokenizer.ggml.model": "bert"}, "its tokenizer is 'bert', which has no byte tokens"),
        ({"general.type": "mmproj"}, "is the image or audio part of a model, not a model"),
        ({"general.type": "imatrix"}, "is an importance matrix, not a model"),
    ],
)  # fmt: skip
def test_values_that_end_the_process_are_refused(parts, tmp_path, values, says):
    path = change(parts, tmp_path, values)
    with pytest.raises(ModelLoadError) as caught:
        check_gguf(path)
    assert says in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "values",
    [
        {"*.attention.head_count": 0, "*.attention.head_count_kv": 0},
        {"*.attention.head_count": [2], "*.attention.head_count_kv": [1]},
        {"*.expert_count": 8, "*.expert_used_count": 2, "*.expert_group_count": 4, "*.expert_group_used_count": 2},
        {"*.expert_count": 8, "*.expert_used_count": 2, "*.expert_group_count": 1},
        {"*.nextn_predict_layers": 1},
        {"*.rope.scaling.type": "yarn"},
        {"tokenizer.ggml.model": "unheard-of"},
    ],
)
def test_unusual_values_pass(parts, tmp_path, values):
    check_gguf(change(parts, tmp_path, values))


@pytest.mark.parametrize("name", ["", "x" * 8, "x" * 16, "x" * 24])
def test_weights_begin_at_a_multiple_of_32(parts, tmp_path, name):
    n_bytes = check_gguf(change(parts, tmp_path, {"general.alignment": 32, "general.name": name})).header_bytes
    path = change(parts, tmp_path, {"general.alignment": 8, "general.name": name})
    header = path.read_bytes()[:n_bytes]
    start = -(-len(header) // 8) * 8
    path.write_bytes(header.ljust(start, b"\0") + parts.data)
    if start % 32 == 0:
        check_gguf(path)
    else:
        with pytest.raises(ModelLoadError, match=f"its weights begin at byte {start:,}, not at a multiple of 32"):
            check_gguf(path)


def test_llama_cpp_names_a_tokenizer_that_it_does_not_know(parts, tmp_path):
    path = change(parts, tmp_path, {"tokenizer.ggml.model": "unheard-of"})
    with pytest.raises(ModelLoadError, match="unknown tokenizer: 'unheard-of'"):
        LlamaCppModel(path)


@pytest.mark.slow
def test_no_changed_header_ends_the_process(parts, tmp_path):
    loader = Loader(trial=False)
    path, rng = tmp_path / "changed.gguf", random.Random(0)
    results = {}
    for label, change_header in [*header_changes("llama"), *((str(i), None) for i in range(60))]:
        changed = parts.copy()
        if change_header is not None:
            change_header(changed)
        path.write_bytes(random_change(changed, rng) if change_header is None else changed.write())
        results[label] = loader.load(path)
    loader.close()
    assert [label for label, result in results.items() if result == "ended"] == []
    assert {"answers", "ModelLoadError"} <= set(results.values())
    assert len(results) > 300


@pytest.mark.slow
def test_an_encoder_decoder_is_refused(tmp_path, monkeypatch):
    numbers = {"attention.relative_buckets_count": 8, "decoder_start_token_id": 0, "attention.key_length": 16}
    monkeypatch.setitem(ARCHITECTURES, "t5", {**numbers, "attention.value_length": 16})
    path = write_model(tmp_path / "t5.gguf", "t5")
    with pytest.raises(
        ModelLoadError, match=r"has an encoder, as T5 has\. Only decoders, such as Llama and Qwen, can answer"
    ):
        LlamaCppModel(path)


def test_an_embedding_model_is_not_a_reader(parts, tmp_path):
    with pytest.raises(ModelLoadError, match="cannot write text: its architecture 'llama' reads a text as a whole"):
        LlamaCppModel(change(parts, tmp_path, {"*.attention.causal": False}))


# Models in several files


@pytest.fixture
def split(parts, tmp_path):
    """Write the model as two files in a cache with links: `snapshot/tiny-0000N-of-00002.gguf` links to `blobs/N`."""
    middle = len(parts.tensors) // 2
    starts = [0, parts.tensors[middle].offset, len(parts.data)]
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    files = []
    for i, tensors in enumerate((parts.tensors[:middle], parts.tensors[middle:])):
        part = parts.copy() if i == 0 else Parts()
        part.tensors = [tensor for tensor in parts.copy().tensors if tensor.name in {each.name for each in tensors}]
        for tensor in part.tensors:
            tensor.offset -= starts[i]
        part.data = parts.data[starts[i] : starts[i + 1]]
        for key, value in (("split.no", i), ("split.count", 2)):
            part.pairs[key] = type(parts.pairs["general.name"])(2, struct.pack("<H", value))
        part.pairs["split.tensors.count"] = type(parts.pairs["general.name"])(5, struct.pack("<i", len(parts.tensors)))
        blob = tmp_path / "blobs" / str(i)
        blob.write_bytes(part.write())
        files.append(tmp_path / "snapshot" / f"tiny-{i + 1:05}-of-00002.gguf")
        files[-1].symlink_to(f"../blobs/{i}")
    return files


def test_a_model_in_parts_is_loaded_by_any_of_them(split, tmp_path, tiny, tiny_gguf):
    alias = tmp_path / "alias.gguf"
    alias.symlink_to(split[1])
    whole = check_gguf(tiny_gguf)
    expected = tiny.generate("Once", max_tokens=8).text
    for path in (*split, alias):
        info = check_gguf(path)
        assert (info.path, info.parts) == (split[0], tuple(split))
        assert info.size_bytes == sum(part.stat().st_size for part in split)
        assert (info.n_params, info.tensor_bytes, info.shapes) == (whole.n_params, whole.tensor_bytes, whole.shapes)
        assert info.tensor_types == whole.tensor_types
        with LlamaCppModel(path, threads=1) as model:
            assert model.generate("Once", max_tokens=8).text == expected
            assert (model.path, model.n_params) == (split[0], whole.n_params)


def test_missing_and_mixed_up_parts_are_named(split, tmp_path):
    with pytest.raises(
        ModelLoadError, match="is one of the 2 parts of a model, but its name does not end in -00001-of-00002"
    ):
        check_gguf(tmp_path / "blobs" / "1")
    first, second = (path.readlink() for path in split)
    split[1].unlink()
    with pytest.raises(
        ModelLoadError, match=r"these are missing in its folder: tiny-00002-of-00002\.gguf. Get all parts"
    ):
        check_gguf(split[0])
    split[1].symlink_to(first)
    with pytest.raises(ModelLoadError, match=r"split\.no is 0, but this is part 1 of 2, counted from 0"):
        check_gguf(split[0])
    split[0].unlink()
    split[0].symlink_to(second)
    with pytest.raises(ModelLoadError, match=r"split\.no is 1, but this is part 0 of 2"):
        check_gguf(split[1])
