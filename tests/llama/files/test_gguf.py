"""Nothing that passes the check ends the process that loads it."""

import ctypes
import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from leanrag import ModelLoadError
from leanrag.llama.files.gguf import TENSOR_TYPES, GGUFArray
from leanrag.llama.files.preflight import check_gguf

U32, STRING, ARRAY = 4, 8, 9


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, kind, payload):
    return text(key) + struct.pack("<I", kind) + payload


def header(*pairs, tensors=0, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, len(pairs)) + b"".join(pairs)


ARCHITECTURE = pair("general.architecture", STRING, text("llama"))


def refused(tmp_path, data):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelLoadError) as caught:
        check_gguf(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_reads_what_the_file_says(tiny_gguf):
    info = check_gguf(tiny_gguf)
    assert (info.version, info.architecture, info.n_ctx_train, info.number("block_count")) == (3, "llama", 256, 1)
    assert info.size_bytes == tiny_gguf.stat().st_size
    assert info.tensor_types == {"Q4_0": 9, "F32": 3}
    assert info.n_params == 2 * 263 * 32 + 4 * 32 * 32 + 3 * 64 * 32 + 3 * 32
    assert info.metadata["general.name"] == "tiny"
    tokens = info.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, GGUFArray)
    assert tokens.length == 263
    assert info.chat_template.startswith("{% for m in messages %}")


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "architecture", "n_ctx", "is_chat"),
    [("smollm2-135m", "llama", 8192, True), ("gemma3-270m", "gemma3", 32768, False)],
)
def test_reads_real_models(name, architecture, n_ctx, is_chat):
    from leanrag.models import resolve

    info = check_gguf(resolve(name))
    assert (info.architecture, info.n_ctx_train, info.chat_template is not None) == (architecture, n_ctx, is_chat)


def test_the_table_of_types_is_that_of_the_library():
    import llama_cpp

    name = {"win32": "ggml-base.dll", "darwin": "libggml-base.dylib"}.get(sys.platform, "libggml-base.so")
    lib = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / name))
    lib.ggml_type_name.restype, lib.ggml_blck_size.restype, lib.ggml_type_size.restype = (
        ctypes.c_char_p, ctypes.c_int64, ctypes.c_size_t,
    )  # fmt: skip
    known = {
        kind: (lib.ggml_type_name(kind).decode().upper(), lib.ggml_blck_size(kind), lib.ggml_type_size(kind))
        for kind in range(max(TENSOR_TYPES) + 1)
        if lib.ggml_blck_size(kind)
    }
    assert {kind: (name.upper(), block, size) for kind, (name, block, size) in TENSOR_TYPES.items()} == known


@pytest.mark.slow
def test_cut_at_any_byte(tiny_gguf, tmp_path):
    data = tiny_gguf.read_bytes()
    end_of_header = data.index(b"blk.0.ffn_down.weight") + 64
    for cut in [*range(0, end_of_header, 7), *range(end_of_header, len(data) - 32, 97), len(data) - 32]:
        refused(tmp_path, data[:cut])
    assert "truncated" in refused(tmp_path, data[:-1000])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"PK\x03\x04" + bytes(20), "zip archive"),
        (struct.pack("<Q", 8) + b'{"a": 1}' * 4, "safetensors"),
        (b"ggjt" + bytes(20), "2023"),
        (b"anything else at all", "not a GGUF file"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (header(version=1), "version 1"),
        (header(version=4), "version 4"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "keys"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1000, 1000), "truncated"),
        (header(struct.pack("<Q", 2**63) + bytes(40)), "bytes, more than"),
        (header(ARCHITECTURE, ARCHITECTURE), "there twice"),
        (header(pair("k", 99, b"")), "unknown type 99"),
        (header(pair("k", STRING, struct.pack("<Q", 2**40))), "more than"),
        (header(pair("k", ARRAY, struct.pack("<IQ", U32, 2**61)), pair("l", U32, bytes(4))), "items, more than"),
        (header(pair("k", ARRAY, struct.pack("<IQ", U32, 1000))), "truncated"),
        (header(pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1) + bytes(12))), "array of the unknown type 9"),
        (header(pair("general.alignment", U32, struct.pack("<I", 24))), "not a power of two"),
        (header(pair("general.alignment", U32, struct.pack("<I", 0))), "not a power of two"),
        (header(), "general.architecture"),
        (header(ARCHITECTURE, pair("llama.block_count", U32, struct.pack("<I", 513))), "block_count is 513"),
        (header(ARCHITECTURE, pair("llama.attention.head_count", U32, struct.pack("<I", 4097))), "head_count is 4097"),
        (header(ARCHITECTURE, pair("llama.context_length", STRING, text("x"))), "context_length is 'x'"),
        (header(ARCHITECTURE, pair("tokenizer.ggml.model", U32, bytes(4))), "tokenizer.ggml.model is 0, not a name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_headers(tmp_path, data, says):
    assert says in refused(tmp_path, data)


def test_paths_that_are_no_file(tmp_path):
    loop = tmp_path / "loop.gguf"
    loop.symlink_to(loop)
    for path in (tmp_path, tmp_path / "missing.gguf", loop):
        with pytest.raises(ModelLoadError):
            check_gguf(path)


def test_a_part_without_its_siblings(tmp_path, tiny_gguf):
    part = tmp_path / "big-00001-of-00002.gguf"
    part.write_bytes(header(ARCHITECTURE, pair("split.count", U32, struct.pack("<I", 2))))
    with pytest.raises(ModelLoadError, match=r"big-00002-of-00002\.gguf"):
        check_gguf(part)


def mutants(data, count, seed):
    """Copies with a few header bytes changed: single bits, and numbers that overflow or vanish."""
    chance = random.Random(seed)
    end = data.index(b"blk.0.ffn_down.weight") + 64
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            at = chance.randrange(8, end)
            if chance.random() < 0.5:
                mutant[at] ^= 1 << chance.randrange(8)
            else:
                value = chance.choice([0, 1, 2, 3, 7, 31, 33, 255, 513, 2**31 - 1, 2**31, 2**32 - 1])
                mutant[at : at + 4] = struct.pack("<I", value)
        yield bytes(mutant)


LOADER = """
import sys
from pathlib import Path
from leanrag import LeanRAGError, LlamaCppModel, Message
for path in sorted(Path(sys.argv[1]).glob("*.gguf")):
    print(path.name, flush=True)
    try:
        with LlamaCppModel(path, n_ctx=128, threads=1) as model:
            model.generate("abc", max_tokens=2)
            model.generate([Message("user", "abc")], max_tokens=2)
    except LeanRAGError:
        pass
print("done", flush=True)
"""


def survive(tmp_path, tiny_gguf, count, seed):
    folder = tmp_path / "mutants"
    folder.mkdir()
    passed = 0
    for number, mutant in enumerate(mutants(tiny_gguf.read_bytes(), count, seed)):
        path = folder / f"{number:05}.gguf"
        path.write_bytes(mutant)
        try:
            check_gguf(path)
            passed += 1
        except ModelLoadError:
            path.unlink()
    assert passed > count // 20  # else this tests nothing
    quiet = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", LOADER, str(folder)], capture_output=True, text=True, check=False, env=quiet
    )
    assert result.stdout.endswith("done\n"), json.dumps([result.returncode, result.stdout[-40:], result.stderr[-2000:]])


@pytest.mark.slow
def test_what_passes_the_check_does_not_kill_the_loader(tmp_path, tiny_gguf):
    survive(tmp_path, tiny_gguf, 150, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_what_passes_the_check_does_not_kill_the_loader_at_length(tmp_path, tiny_gguf, seed):
    survive(tmp_path, tiny_gguf, 2500, seed)
