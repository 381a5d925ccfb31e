"""`leanrag quantize`: write a GGUF model with fewer bits, and measure the difference."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from leanrag.cli.options import Commands
from leanrag.cli.output import OK, show
from leanrag.errors import ConfigurationError, DocumentError

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "quantize", _run, commands.common, "write a GGUF model with fewer bits, and measure the difference"
    )
    parser.add_argument("source", metavar="IN", help="name or GGUF file")
    parser.add_argument("target", metavar="OUT", help="file to write")
    parser.add_argument(
        "--type", default="q4_0", help="type of the weights, such as q4_0 or q8_0 (default: %(default)s)"
    )
    parser.add_argument("--prune-layers", default="", metavar="3,5-7", help="layers to remove, counted from 0")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument(
        "--text", metavar="FILE", help="text to measure perplexity on (default: a part of Python's help)"
    )


def _run(options: argparse.Namespace) -> int:
    from leanrag.llama.files.quantize import measure, quantize
    from leanrag.models import resolve

    text, origin = _text_to_measure(options.text)
    source, target = resolve(options.source), Path(options.target)
    report = quantize(
        source,
        target,
        type=options.type,
        prune_layers=_layers(options.prune_layers),
        overwrite=options.overwrite,
    )
    before, after = measure(source, text), measure(target, text)
    rows = [
        ("size, MB", before.size_bytes / 1e6, after.size_bytes / 1e6),
        ("layers", report.layers_before, report.layers_after),
        ("prefill, tokens/s", before.prefill_tokens_per_second, after.prefill_tokens_per_second),
        ("decode, tokens/s", before.decode_tokens_per_second, after.decode_tokens_per_second),
        ("perplexity", before.perplexity, after.perplexity),
    ]
    lines = [
        f"{'':18}{'before':>10}{'after':>10}",
        *(f"{name:18}{_number(first):>10}{_number(second):>10}" for name, first, second in rows),
        "",
        f"{target}: {report.type}, {report.bits_per_weight:.2f} bits for each weight, in {report.seconds:.1f} s",
        f"perplexity on {origin}; lower is better",
    ]
    show(options, {"report": report, "before": before, "after": after, "text": origin}, "\n".join(lines))
    return OK


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value % 1 == 0 else f"{value:,.2f}"


def _text_to_measure(file: str | None) -> tuple[str, str]:
    """Return a text and a description of it: the text of `file`, or the help topics of Python."""
    if file is None:
        from leanrag.llama.files.fastest import describe_help_topics, read_help_topics

        text = read_help_topics()
        return text, describe_help_topics(text)
    try:
        return Path(file).read_text(encoding="utf-8"), file
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"cannot read {file!r} as UTF-8 text: {error}", path=file) from error


def _layers(text: str) -> list[int]:
    """Parse "3,5-7"."""
    layers: list[int] = []
    for part in text.split(",") if text else []:
        found = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part.strip(), re.ASCII)
        span = range(int(found[1]), int(found[2] or found[1]) + 1) if found else ()
        if not span:
            raise ConfigurationError(f"layers must be written as numbers and ranges, such as 3,5-7, got {text!r}")
        layers += span
    return layers
