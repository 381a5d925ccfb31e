"""The `leanrag` command, and its exit codes.

0  done
1  failed; the reason is on standard error
2  wrong usage: an option or argument cannot work
3  `ask`: the sources do not support the answer; `search`: nothing was found
4  `add`: some sources could not be read, the others were added
130  interrupted
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import leanrag
from leanrag.errors import ConfigurationError, DocumentError, LeanRAGError

if TYPE_CHECKING:
    from leanrag.pipeline.rag import Rag
    from leanrag.routing.calibration import Calibration
    from leanrag.routing.cascade import Cascade
    from leanrag.types import AddReport, Answer, Scalar

__all__ = ["main"]

_DEFAULT_FOLDER = ".leanrag"
_MEASURED_CHARS = 8_000  # some 2,000 tokens, which a small model reads in seconds
OK, FAILED, USAGE, UNSUPPORTED, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.ERROR, format="%(name)s: %(message)s")
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        _report_error(options, "interrupted", None)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has gone
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - for the interpreter's last flush
        return OK
    except LeanRAGError as error:
        _report_error(options, str(error), error)
        return USAGE if isinstance(error, ConfigurationError) else FAILED


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON value instead of text")
    common.add_argument("--verbose", action="store_true", help="log what happens to standard error")
    folder = argparse.ArgumentParser(add_help=False, parents=[common])
    folder.add_argument(
        "--folder",
        default=os.environ.get("LEANRAG_FOLDER", _DEFAULT_FOLDER),
        help=f"the database: a folder (default: $LEANRAG_FOLDER or {_DEFAULT_FOLDER})",
    )
    folder.add_argument("--embedder", default="all-minilm-l6-v2", help="name or folder (default: %(default)s)")
    reading = argparse.ArgumentParser(add_help=False, parents=[folder])
    reading.add_argument(
        "--model",
        action="append",
        help="name or GGUF file; several, the smallest first, are asked in turn (default: smollm2-135m)",
    )
    reading.add_argument("-k", type=int, default=10, help="chunks retrieved (default: %(default)s)")
    reading.add_argument(
        "--context-tokens", type=int, default=300, help="most tokens of sources (default: %(default)s)"
    )
    reading.add_argument("--max-tokens", type=int, default=64, help="most tokens of the answer (default: %(default)s)")
    reading.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only documents with this metadata"
    )
    asking = argparse.ArgumentParser(add_help=False, parents=[reading])
    asking.add_argument("question")

    parser = argparse.ArgumentParser(prog="leanrag", description=leanrag.__doc__.splitlines()[0], epilog=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--version", action="version", version=f"leanrag {leanrag.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], parent: argparse.ArgumentParser, about: str
    ) -> Any:
        added = commands.add_parser(name, parents=[parent], help=about, description=about)
        added.set_defaults(run=run)
        return added

    add = command("add", _add, folder, "add files and folders; what is unchanged is skipped")
    add.add_argument("sources", nargs="+", metavar="PATH")
    add.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="metadata for each document")
    remove = command("remove", _remove, folder, "remove documents by path or id")
    remove.add_argument("sources", nargs="+", metavar="PATH")
    search = command("search", _search, folder, "find text for a question")
    search.add_argument("question")
    search.add_argument("-k", type=int, default=5, help="most hits (default: %(default)s)")
    search.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only documents with this metadata"
    )
    ask = command("ask", _ask, asking, "answer a question from the documents")
    ask.add_argument("--temperature", type=float, default=0.0, help="0 for the same answer each time (default)")
    ask.add_argument("--seed", type=int, help="repeats a draw when the temperature is above 0")
    ask.add_argument("--timeout", type=float, metavar="SECONDS", help="limit of the generation")
    ask.add_argument(
        "--calibration",
        action="append",
        default=[],
        metavar="FILE",
        help="from `calibrate`, for each model but the last, or each: says how sure its answers are",
    )
    ask.add_argument(
        "--abstain-below", type=float, metavar="CONFIDENCE", help="of a less sure answer, say only that there is none"
    )
    calibrate = command("calibrate", _calibrate, reading, "learn from questions when a smaller model's answer is kept")
    calibrate.add_argument(
        "questions", metavar="QUESTIONS.jsonl", help='lines such as {"question": "Who?", "answers": ["Ada Park"]}'
    )
    calibrate.add_argument("--alpha", type=float, default=0.05, help="most risk (default: %(default)s)")
    calibrate.add_argument(
        "--delta", type=float, default=0.1, help="probability that the risk is more all the same (default: %(default)s)"
    )
    calibrate.add_argument("--seed", type=int, default=0, help="of the random parts (default: %(default)s)")
    calibrate.add_argument(
        "--out",
        action="append",
        required=True,
        metavar="FILE",
        help="to write; one for each model but the last, or each",
    )
    command("explain", _explain, asking, "show what `ask` would send, without generating")
    pull = command("pull", _pull, common, "get models by name into the cache")
    pull.add_argument("names", nargs="+", metavar="NAME")
    pull.add_argument("--accept-terms", action="store_true", help="accept the terms of use of models that have some")
    pull.add_argument("--force", action="store_true", help="get it again even if it is there")
    pull.add_argument("--type", help="also make a copy with weights of this type, such as q4_0, named NAME:TYPE")
    quantize = command("quantize", _quantize, common, "rewrite a GGUF model in fewer bits, and measure what that did")
    quantize.add_argument("source", metavar="IN", help="name or GGUF file")
    quantize.add_argument("target", metavar="OUT", help="file to write")
    quantize.add_argument("--type", default="q4_0", help="of the weights, such as q4_0 or q8_0 (default: %(default)s)")
    quantize.add_argument("--prune-layers", default="", metavar="3,5-7", help="layers to leave out, counted from 0")
    quantize.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    quantize.add_argument(
        "--text", metavar="FILE", help="what perplexity is measured on (default: a part of Python's help)"
    )
    command("list", _list, common, "list the models known by name")
    command("doctor", _doctor, common, "report versions, devices, models, and what would make it faster")
    command("stats", _stats, folder, "report what the folder holds")
    return parser


# Commands


def _add(options: argparse.Namespace) -> int:
    with _open(options, create=True) as rag:
        try:
            report = rag.add(*options.sources, metadata=_pairs(options.set))
        except DocumentError as error:
            if error.report is None:
                raise
            report = error.report
    _show(options, report, _report_lines(report))
    return PARTIAL if report.failed else OK


def _remove(options: argparse.Namespace) -> int:
    with _open(options) as rag:
        removed = rag.remove(*options.sources)
    _show(options, {"removed": removed}, [f"removed {removed} documents"])
    return OK


def _search(options: argparse.Namespace) -> int:
    with _open(options) as rag:
        hits = rag.search(options.question, options.k, where=_pairs(options.where))
    lines = []
    for number, hit in enumerate(hits, 1):
        chunk = hit.chunk
        lines += [f"{number}. {chunk.title or chunk.document_id} [{chunk.start}:{chunk.end}]  {hit.score:.3f}"]
        lines += ["   " + line for line in chunk.text.strip().splitlines()] + [""]
    _show(options, hits, lines or ["nothing was found"])
    return OK if hits else UNSUPPORTED


def _ask(options: argparse.Namespace) -> int:
    with _open(options) as rag:
        answer = rag.ask(
            options.question,
            where=_pairs(options.where),
            temperature=options.temperature,
            seed=options.seed,
            timeout_seconds=options.timeout,
        )
    _show(options, answer, answer_lines(answer))
    return OK if answer.is_supported else UNSUPPORTED


def _calibrate(options: argparse.Namespace) -> int:
    from leanrag.routing.labels import read_questions

    paths = [Path(name) for name in options.out]
    models = options.model or []
    if not models or len(models) - len(paths) not in ((0,) if len(models) == 1 else (0, 1)):
        raise ConfigurationError(
            "give the models by `--model`, the smallest first, and an `--out` for each, or for each but the last; "
            f"got {len(models)} and {len(paths)}"
        )
    if absent := [path for path in paths if not path.absolute().parent.is_dir()]:
        raise ConfigurationError(f"the folder of {str(absent[0])!r} is not there; make it, or name another file")
    questions = read_questions(options.questions)
    if len(paths) < len(models) and any(not isinstance(one, str) and not one[1] for one in questions):
        raise ConfigurationError(
            "some questions have no answer, from which the last model too learns when to abstain, and the others count on it: give "
            "an `--out` for each model, and each file to `ask` by `--calibration`"
        )
    with _open(options) as rag:
        calibrations = rag.calibrate(
            questions, alpha=options.alpha, delta=options.delta, seed=options.seed, where=_pairs(options.where)
        )
    saved = list(zip(paths, calibrations, strict=False))  # there may be none for the last model, or no file for it
    for path, calibration in saved:
        calibration.save(path)
    lines = [line for path, calibration in saved for line in _calibration_lines(path, calibration)]
    if len(calibrations) < len(paths):
        lines.append(f"{models[-1]}: nothing was learnt of the last model; {paths[-1]} is not written")
    _show(options, [calibration.model_dump(mode="json") for calibration in calibrations], lines)
    return OK


def _calibration_lines(path: Path, calibration: Calibration) -> list[str]:
    names = ", then ".join(model.name for model in calibration.models)
    auroc = "-" if calibration.auroc is None else f"{calibration.auroc:.3f}"
    kept = f"{calibration.kept:.1%}" if calibration.threshold is not None else "0.0%, for nothing can be certified"
    rows = f"  rows             {calibration.rows_fitted} to learn from, {calibration.rows_certified} to"
    passing = [  # nothing is passed on by the last model
        f"  least passed on  {calibration.least_escalated:.1%}, by any method with a risk of at most {calibration.alpha:g}",
        f"{rows} certify with",
        f"  kept             {kept}",
        f"  bound            {calibration.bound:.4f}, with probability {1 - calibration.delta:g}",
    ]
    return [
        f"{names} ({calibration.label_source})",
        *(passing if len(calibration.models) > 1 else [f"{rows} judge it by"]),
        f"  AUROC            {auroc}",
        f"  ECE              {calibration.ece:.3f}",
        *(() if calibration.abstain_below is None else (f"  abstains         below {calibration.abstain_below:.3f}",)),
        *(() if calibration.ask_from is None else (f"  asks             from {calibration.ask_from:.3f}",)),
        f"  {path}",
    ]


def _explain(options: argparse.Namespace) -> int:
    with _open(options) as rag:
        plan = rag.explain(options.question, where=_pairs(options.where))
    packing = plan.packing
    lines = [
        f"model   {plan.model}, window {plan.n_ctx:,} tokens",
        f"prompt  {plan.prompt_tokens:,} tokens, {plan.max_tokens:,} reserved for the answer",
        f"sources {packing.tokens:,} of {packing.budget:,} tokens",
    ]
    lines += [
        f"  [{i.number}] {i.action:9} {i.tokens:4} tokens  {i.hit.chunk.title} "
        + " ".join(f"[{segment.source_start}:{segment.source_end}]" for segment in i.segments)
        for i in packing.items
    ]
    lines += [f"   -  {d.reason:9} {d.tokens:4} tokens  {d.hit.chunk.title}" for d in packing.dropped]
    lines += ["", plan.prompt if plan.prompt is not None else "nothing was found: no model would be asked"]
    _show(options, plan, lines)
    return OK


def _pull(options: argparse.Namespace) -> int:
    from leanrag.models.registry import REGISTRY, pull
    from leanrag.pipeline.copies import check_copy, make_copy

    if options.type:
        for name in options.names:
            check_copy(name, options.type)
    pulled = {}
    for name in options.names:
        spec = REGISTRY.get(name)
        if spec is not None and not options.json:
            _print(f"{name}: {spec.licence}, {spec.size_bytes / 1e6:.0f} MB")
            if spec.terms:
                _print(spec.terms)
        pulled[name] = pull(name, accept_terms=options.accept_terms, force=options.force)
        if not options.json:
            _print(f"  {pulled[name]}")
        for kind in dict.fromkeys([spec.copy_type if spec else "", options.type or ""]):
            if kind:
                pulled[f"{name}:{kind}"] = copy = make_copy(name, kind)
                if not options.json:
                    _print(f"  {name}:{kind}  {copy}")
        if spec is not None and spec.kind == "gguf" and not options.type and not options.json:
            _advise_type(name, pulled[name])
    if options.json:
        _show(options, pulled, [])
    return OK


def _advise_type(name: str, path: Path) -> None:
    from leanrag.llama.files.gguf import check_gguf
    from leanrag.llama.files.quantize import fastest_int4, has_fast_kernels

    machine = platform.machine()
    if not has_fast_kernels(check_gguf(path), machine):
        _print(
            "  this CPU has no fast kernels for most of its weights; to make a faster, less exact copy: "
            f"leanrag pull {name} --type {fastest_int4(machine)}"
        )


def _quantize(options: argparse.Namespace) -> int:
    from leanrag.llama.files.quantize import measure, quantize
    from leanrag.models.registry import resolve

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
    _show(
        options,
        {"report": report, "before": before, "after": after, "text": origin},
        [
            f"{'':18}{'before':>10}{'after':>10}",
            *(f"{name:18}{_number(first):>10}{_number(second):>10}" for name, first, second in rows),
            "",
            f"{target}: {report.type}, {report.bits_per_weight:.2f} bits a weight, in {report.seconds:.1f} s",
            f"perplexity on {origin}; lower is better",
        ],
    )
    return OK


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value % 1 == 0 else f"{value:,.2f}"


def _text_to_measure(file: str | None) -> tuple[str, str]:
    """A text, and words for what it is. Without a file it is what every Python has: its own help on its language."""
    if file is None:
        from pydoc_data.topics import topics

        text = "\n".join(topics[name] for name in sorted(topics))[:_MEASURED_CHARS]
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return text, f"the first {len(text):,} characters of the help topics of Python {version}"
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
            raise ConfigurationError(f"layers are given as numbers and ranges, such as 3,5-7, got {text!r}")
        layers += span
    return layers


def _list(options: argparse.Namespace) -> int:
    from leanrag.models.registry import list_models

    models = list_models()
    rows = [("NAME", "KIND", "MB", "LICENCE", "PATH")]
    rows += [
        (m.spec.name, m.spec.kind, f"{m.spec.size_bytes / 1e6:.0f}", m.spec.licence, str(m.path or "not pulled"))
        for m in models
    ]
    rows += [
        (f"{m.spec.name}:{kind}", m.spec.kind, f"{path.stat().st_size / 1e6:.0f}", m.spec.licence, str(path))
        for m in models
        for kind, path in m.copies.items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    _show(
        options,
        models,
        ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows],
    )
    return OK


def _doctor(options: argparse.Namespace) -> int:
    from leanrag.cli.doctor import examine

    findings = examine()
    lines = []
    for title, rows in findings.sections.items():
        lines += [title, *(f"  {name:24} {value}" for name, value in rows.items()), ""]
    lines += [
        "What would make it better" if findings.advice else "Nothing to mend.",
        *(f"  - {a}" for a in findings.advice),
    ]
    _show(options, findings, lines)
    return OK


def _stats(options: argparse.Namespace) -> int:
    with _open(options) as rag:
        stats = rag.stats()
    rows = dataclasses.asdict(stats)
    _show(
        options,
        stats,
        [f"{name:12} {value:,}" if isinstance(value, int) else f"{name:12} {value}" for name, value in rows.items()],
    )
    return OK


# Input and output


@contextlib.contextmanager
def _open(options: argparse.Namespace, *, create: bool = False) -> Iterator[Rag]:
    settings = {
        name: getattr(options, name)
        for name in ("k", "context_tokens", "max_tokens", "abstain_below")
        if hasattr(options, name)
    }
    if hasattr(options, "model"):
        settings["model"] = _models(options)
    with leanrag.open(options.folder, embedder=options.embedder, create=create, **settings) as rag:
        yield rag


def _models(options: argparse.Namespace) -> str | Cascade:
    """The model to ask, or a cascade: of several, of one that was calibrated, or to be calibrated."""
    names = options.model or ["smollm2-135m"]
    files = getattr(options, "calibration", [])
    if len(names) == 1 and not files and not hasattr(options, "out"):
        return str(names[0])
    return leanrag.Cascade(names, calibrations=[leanrag.Calibration.load(file) for file in files])


def _pairs(texts: Sequence[str]) -> dict[str, Scalar]:
    """Parse KEY=VALUE; a value that is a JSON number, true, false or null is taken as such."""
    pairs: dict[str, Scalar] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ConfigurationError(f"metadata is given as KEY=VALUE, got {text!r}")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        pairs[key] = parsed if isinstance(parsed, (str, int, float, type(None))) else value
    return pairs


def answer_lines(answer: Answer) -> list[str]:
    """Return an answer as text: the words, the quotes with file and offsets, and the receipt."""
    lines = [str(answer), ""]
    for citation in answer.citations:
        quote = " ".join(citation.quote.split())
        lines += [
            f'[{citation.number}] "{quote}"',
            f"    {citation.source or citation.title} [{citation.start}:{citation.end}]",
        ]
    if answer.citations:
        lines.append("")
    usage = answer.usage
    receipt = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens, {answer.seconds:.2f} s"
    kind = " (calibrated)" if answer.calibrated else ""
    confidence = "" if answer.confidence is None else f", confidence {answer.confidence:.2f}{kind}"
    lines.append(f"{answer.model or 'no model asked'}: {receipt}{confidence}")
    if len(answer.steps) > 1 or answer.abstained:
        for step in answer.steps:
            sure = "" if step.confidence is None else f", confidence {step.confidence:.2f}"
            lines.append(f"    {step.model}: {step.outcome}, {step.reason}{sure}")
    return lines


def _report_lines(report: AddReport) -> list[str]:
    counts = {
        name: len(getattr(report, name)) for name in ("added", "updated", "unchanged", "removed", "skipped", "failed")
    }
    summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to do"
    lines = [f"{summary}; {report.chunks} chunks in {report.seconds:.1f} s"]
    return lines + [f"failed: {failure.error}" for failure in report.failed]


def _show(options: argparse.Namespace, value: object, lines: Sequence[str]) -> None:
    if options.json:
        _print(json.dumps(_plain(value), ensure_ascii=False))
    else:
        _print("\n".join(lines))


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def _report_error(options: argparse.Namespace, message: str, error: LeanRAGError | None) -> None:
    if options.json:
        _print(json.dumps({"error": type(error).__name__ if error else "KeyboardInterrupt", "message": message}))
    print(f"leanrag: {message}", file=sys.stderr)


def _plain(value: Any) -> Any:
    """Return `value` as JSON can hold it; an exception becomes its message."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, (Path, Exception)):
        return str(value)
    return value
