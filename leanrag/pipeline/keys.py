"""What an answer depends on, as the key of a cache."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import unicodedata
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from leanrag.files import known_fingerprint
from leanrag.models import split_name
from leanrag.pipeline.query import Query, Settings
from leanrag.pipeline.stages import Stages
from leanrag.protocols import Adapted, FromFile
from leanrag.retrieval.store import Store
from leanrag.routing.cascade import Cascade, Model, model_name
from leanrag.types import AskKey

__all__ = ["describe", "make_key"]

_OPTIONS = ("k", "context_tokens", "max_tokens", "thinking_tokens", "style", "temperature", "seed")


def make_key(query: Query, settings: Settings, stages: Stages, cascade: Cascade, store: Store) -> AskKey | None:
    """Return the key of an answer; None without a cache, or if the answer is drawn at random."""
    if stages.cache is None or not query.is_repeatable:
        return None
    return describe(query, settings, stages, cascade, store)


def describe(query: Query, settings: Settings, stages: Stages, cascade: Cascade, store: Store) -> AskKey:
    """Return everything that an answer depends on, without a search."""
    options = {name: getattr(query, name) for name in _OPTIONS}
    options |= {"abstain_below": settings.abstain_below, "self_check": settings.self_check}
    if query.earlier is not None and query.earlier.exchanges:
        options["conversation"] = hashlib.sha256(repr(query.earlier).encode("utf-8", "surrogatepass")).hexdigest()
    return AskKey(
        question=" ".join(unicodedata.normalize("NFC", query.question).split()),
        options=json.dumps(options, sort_keys=True),
        where=_canonical(query.where),
        folder=str(store.folder.resolve()),
        models=tuple(map(_identify, cascade.models)),
        stages=(*stages.names(), _policy(cascade), _version()),
        documents=store.content_hash(),
    )


def _canonical(value: object) -> str:
    """Return one text for equal filters: keys in order, and 1, 1.0 and True told apart."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{key!r}: {_canonical(each)}" for key, each in value.items())) + "}"
    if isinstance(value, Set):
        return "{" + ", ".join(sorted(map(_canonical, value))) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_canonical, value)) + "]"
    return repr(value)


def _identify(model: Model) -> str:
    """Return the name of a model, or for files hashes, which change when other files take their places."""
    if isinstance(model, (str, os.PathLike)):
        return "+".join(map(_identify_part, split_name(model)))
    adapters = model.adapters if isinstance(model, Adapted) else ()
    file = _identify_part(os.fspath(model.path)) if isinstance(model, FromFile) else ""
    return " ".join([model_name(model), file, *(f"{adapter.sha256}@{adapter.scale!r}" for adapter in adapters)])


def _identify_part(name: str) -> str:
    path = Path(name)
    return known_fingerprint(path) if path.is_file() else name


@functools.cache
def _version() -> str:
    return importlib.metadata.version("leanrag")


def _policy(cascade: Cascade) -> str:
    """Return a hash of everything that decides which model's answer is kept."""
    router = type(cascade.router).__qualname__
    policy = (
        cascade.threshold,
        cascade.skip_above,
        router,
        cascade.limits,
        cascade.context_tokens,
        cascade.calibrations,
    )
    return hashlib.sha256(repr(policy).encode()).hexdigest()
