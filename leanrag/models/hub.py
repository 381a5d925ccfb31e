"""Files of the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from leanrag._optional import require
from leanrag.errors import ConfigurationError, ModelLoadError, StorageError
from leanrag.models.registry import HubFile

__all__ = ["PREFIX", "find_file", "get_file"]

PREFIX = "hf:"
"""The prefix of the name of a file of the hub: `hf:owner/repository/file`."""


def find_file(file: HubFile) -> Path | None:
    """Return a file of the hub, and download it if necessary; None if the client of the hub is not installed.

    Raises:
        StorageError: The hub cannot be reached, or does not have the file.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    import httpx
    from huggingface_hub import constants, hf_hub_download

    try:
        if not constants.HF_HUB_OFFLINE:
            httpx.head(constants.ENDPOINT, timeout=5.0)  # the client of the hub would try for half a minute
        return Path(hf_hub_download(file.repository, file.filename))
    except Exception as error:  # its errors have no common base class; the next source may have the file
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]:.200}"
        raise StorageError(reason, path=file.filename) from error


def get_file(name: str, *, local_only: bool) -> Path:
    """Return the file of the hub with the name `hf:owner/repository/file`.

    Args:
        name: The name.
        local_only: Whether the file must have been downloaded before.

    Raises:
        ConfigurationError: The name has another form.
        ModelLoadError: The file is not on this machine, or cannot be downloaded.
        MissingDependencyError: The client of the hub is not installed.
    """
    found = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)/(.+)", name)
    if found is None:
        raise ConfigurationError(f"the name of a file of the hub must be hf:OWNER/REPOSITORY/FILE, got {name!r}")
    hub = require("huggingface_hub", extra="torch", why="to get files from the Hugging Face hub")
    try:
        return Path(hub.hf_hub_download(found[1], found[2], local_files_only=local_only))
    except Exception as error:
        problem = "is not on this machine" if local_only else "cannot be downloaded"
        hint = f"Get it with: leanrag pull {name}" if local_only else "Check the name and the network"
        raise ModelLoadError(f"{name} {problem} ({type(error).__name__}). {hint}", path=found[2], model=name) from error
