"""What Q4_0 costs the reader: its adapter on the very file that it was trained on, against the merged weights in Q4_0.

The reader was trained on the dequantized numbers of that file. So the quantization was there during the training, and nothing is
rounded afterwards. Merging adds the adapter to the weights, and they must be rounded again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

from benchmarks.training.evaluating import REPLY_TOKENS, SETS, Asked, make_asked, parse_reply
from leanrag.llama import LlamaCppModel, quantize
from leanrag.metrics import exact_match, mean
from leanrag.models import resolve_model
from leanrag.prompting import profile_named
from leanrag.training import load_record
from leanrag.training.base import load_decoder
from leanrag.training.lora import load_adapter, lora_layers

__all__ = ["measure_quantizing", "write_merged"]

READER = "smollm2-135m+reader"
_QUESTIONS, _QUICK_QUESTIONS = 16, 2  # of each set that has answers


def measure_quantizing(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Return the share of exact answers through llama.cpp: of the adapter, and of the merged weights in F16 and in Q4_0."""
    files, profile = resolve_model(READER), profile_named(READER)
    assert profile is not None
    seen = frozenset(load_record(files.adapters[0].with_suffix(".json")).units)
    with LlamaCppModel(files.path, adapters=files.adapters, n_ctx=1024) as model:
        count = _QUICK_QUESTIONS if is_quick else _QUESTIONS
        asked = [
            each
            for each in make_asked(data, model, profile, seen=seen, count=count)
            if SETS[each.set_name][1] and each.answers
        ]
        with_adapter = _share_exact(model, asked)
    with tempfile.TemporaryDirectory() as folder:
        merged, quantized = Path(folder) / "merged.gguf", Path(folder) / "merged-q4_0.gguf"
        write_merged(files.path, files.adapters[0], merged)
        quantize(merged, quantized, type="q4_0")
        with LlamaCppModel(merged, n_ctx=1024) as model:
            in_f16 = _share_exact(model, asked)
        with LlamaCppModel(quantized, n_ctx=1024) as model:
            in_q4_0 = _share_exact(model, asked)
    return {
        "q4_0_cost": with_adapter - in_q4_0,
        "adapter_em": with_adapter,
        "merged_f16_em": in_f16,
        "merged_q4_0_em": in_q4_0,
        "q4_0_n": len(asked),
    }


def _share_exact(model: LlamaCppModel, asked: Sequence[Asked]) -> float:
    replies = [model.generate(list(each.row.prompt), max_tokens=REPLY_TOKENS) for each in asked]
    return mean(
        exact_match(parse_reply(reply.text)[0], each.answers) for reply, each in zip(replies, asked, strict=True)
    )


def write_merged(base: Path, adapter: Path, target: Path) -> None:
    """Write a model with the changes of an adapter added to its weights, as F16."""
    decoder = load_decoder(base)
    load_adapter(adapter, decoder)
    changed = {
        name: (layer.base.weight + layer.scale * layer.b @ layer.a).detach().numpy()
        for name, layer in lora_layers(decoder)
    }
    reader = gguf.GGUFReader(base)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            kind, *of_items = field.types
            writer.add_key_value(name, field.contents(), kind, of_items[-1] if of_items else None)
    for tensor in reader.tensors:
        values = changed.get(tensor.name)
        if values is None:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tuple(tensor.shape[::-1]))
        writer.add_tensor(tensor.name, values.astype(np.float32 if values.ndim == 1 else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
