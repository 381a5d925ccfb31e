"""`leanrag pull`: download models into the cache."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from leanrag.cli.options import Commands
from leanrag.cli.output import OK, print_text, show

if TYPE_CHECKING:
    from leanrag.models import ModelSpec

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("pull", _run, commands.common, "download models into the cache")
    parser.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="name that `leanrag list` shows, or hf:OWNER/REPOSITORY/FILE of the hub",
    )
    parser.add_argument("--accept-terms", action="store_true", help="accept the terms of use, if a model has some")
    parser.add_argument("--force", action="store_true", help="get the model again even if it is in the cache")
    parser.add_argument(
        "--type",
        help="also make a copy with this type of weights, such as q4_0; its name is NAME:TYPE. auto measures which type is the "
        "fastest here without a loss, which takes minutes the first time",
    )


def _run(options: argparse.Namespace) -> int:
    from leanrag.models import REGISTRY
    from leanrag.pipeline.copies import AUTO, check_copy

    if options.type:
        for name in options.names:
            check_copy(name, options.type, allowed=(AUTO,))
    pulled: dict[str, Path] = {}
    for name in options.names:
        pulled |= _pull(name, REGISTRY.get(name), options)
    if options.json:
        show(options, pulled, "")
    return OK


def _pull(name: str, spec: ModelSpec | None, options: argparse.Namespace) -> dict[str, Path]:
    """Download a model and make its copies: return `{name: path}`. Progress is printed, except with `--json`."""
    from leanrag.models import pull
    from leanrag.pipeline.copies import AUTO, make_copy

    def say(text: str) -> None:
        if not options.json:
            print_text(text)

    if spec is not None:
        say(f"{name}: {spec.licence}, {spec.size_bytes / 1e6:.0f} MB")
        if spec.terms:
            say(spec.terms)
    pulled = {name: pull(name, accept_terms=options.accept_terms, force=options.force)}
    say(f"  {pulled[name]}")
    wanted = _measure_type(name, say) if options.type == AUTO else options.type
    for kind in dict.fromkeys([spec.copy_type if spec else "", wanted or ""]):
        if kind:
            pulled[f"{name}:{kind}"] = copy = make_copy(name, kind)
            say(f"  {name}:{kind}  {copy}")
    if spec is not None and spec.kind == "gguf" and not options.type:
        _advise_type(name, pulled[name], say=say)
    return pulled


def _advise_type(name: str, path: Path, say: Callable[[str], None]) -> None:
    from leanrag.llama.files import check_gguf
    from leanrag.llama.files.quantize import has_fast_kernels

    if not has_fast_kernels(check_gguf(path), platform.machine()):
        say(
            "  this CPU has no fast kernels for most weights of this model. Measure whether a copy is faster without a loss: "
            f"leanrag pull {name} --type auto"
        )


def _measure_type(name: str, say: Callable[[str], None]) -> str | None:
    """Return the fastest type of weights on this machine, and print what was measured; None if no copy is faster."""
    from leanrag.llama.files.fastest import AS_SHIPPED
    from leanrag.pipeline.copies import find_fastest_type

    choice = find_fastest_type(name)
    say(f"  {'':12}{'MB':>8}{'prefill/s':>12}{'decode/s':>11}{'perplexity':>12}")
    for kind, each in choice.figures.items():
        speeds = f"{each.prefill_tokens_per_second or 0:>12,.0f}{each.decode_tokens_per_second or 0:>11,.1f}"
        say(f"  {kind:12}{each.size_bytes / 1e6:>8,.0f}{speeds}{each.perplexity or 0:>12,.2f}")
    say(f"  the fastest without a loss on this machine: {choice.type}")
    return None if choice.type == AS_SHIPPED else choice.type
