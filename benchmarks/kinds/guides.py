"""Instructions and reference: how-to steps, manual pages, and the documentation of an API."""

from __future__ import annotations

import gzip
import importlib
import inspect
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kinds.material import Draft, KindQuestion
from benchmarks.kinds.vocabulary import people

__all__ = ["api_reference", "how_to", "manual"]

_TASKS = (
    (
        "Descaling the {s}",
        "How do I get the lime out of the {s}?",
        (
            "Empty the tank.",
            "Pour in {n} millilitres of citric acid.",
            "Run program {m} without a cup.",
            "Rinse twice.",
        ),
        "{n} millilitres",
    ),
    (
        "Replacing the filter of the {s}",
        "What are the steps to put a new filter into the {s}?",
        (
            "Switch off the {s}.",
            "Turn the cover {n} degrees to the left.",
            "Slide in filter type F{m}.",
            "Close the cover.",
        ),
        "F{m}",
    ),
    (
        "Pairing the {s} with a phone",
        "How can my telephone be connected to the {s}?",
        ("Open the app.", "Hold the {s} key for {n} seconds.", "Enter the code 00{m}.", "Wait for the blue light."),
        "00{m}",
    ),
    (
        "Moving the {s} to another building",
        "We change offices; how is the {s} transported?",
        (
            "Back up the settings.",
            "Lock the arm with screw {m}.",
            "Lift it with {n} people or a cart.",
            "Test it there.",
        ),
        "{m}",
    ),
)
_APPLIANCES = (
    "espresso machine|label printer|film scanner|air washer|ice maker|bread slicer|card reader|laser cutter|water softener|"
    "steam iron|juice press|meat grinder|egg boiler|hot plate"
).split("|")


def how_to(source: random.Random) -> Draft:
    """Make numbered steps under a heading; the same tasks for many appliances."""
    subjects = source.sample(_APPLIANCES, 12)
    numbers, codes = source.sample(range(12, 99), 12), source.sample(range(100, 999), 12)
    files: dict[str, str] = {}
    questions = []
    for part in range(3):
        name = f"appliances-{part + 1}.md"
        text = f"# Appliances, volume {part + 1}\n\n"
        for i in range(part * 4, part * 4 + 4):
            for j, (heading, question, steps, short) in enumerate(_TASKS):
                values = {"s": subjects[i], "n": numbers[i - j], "m": codes[i - j]}
                title = heading.format(**values)
                block = "".join(f"{k}. {step.format(**values)}\n" for k, step in enumerate(steps, start=1))
                text += f"## {title}\n\n{block}\n"
                questions.append(
                    KindQuestion(question.format(**values), short.format(**values), (title, block), (name,))
                )
        files[name] = text
    return files, questions


# Manual pages: those of git, which many machines have, as plain text; and of a tool that is made up.

_MAN_FOLDER = Path("/usr/share/man/man1")
_COMMANDS = ("git-add", "git-clone", "git-gc", "git-stash", "git-tag")
_NOT_A_COMMAND = frozenset(
    "A After An Before By Do Don't For If In Instead Normally On Only Same The This When With Without".split()
)
_ROFF = (
    (re.compile(r"\\f[A-Z]|\\&|\\c"), ""),
    (re.compile(r"\\\(aq|\\\(cq|\\\(oq"), "'"),
    (re.compile(r"\\\(lq|\\\(rq"), '"'),
    (re.compile(r"\\-"), "-"),
    (re.compile(r"\\e"), r"\\"),
)
_OPTION = re.compile(r"\.PP\n(?P<names>-[^\n]*(?:, -[^\n]*)*)\n\.RS 4\n(?P<about>(?:(?!\.)[^\n]+\n)+)")
_SENTENCE = re.compile(r"[A-Z][^.:]{30,140}\.(?=\s|$)")


@dataclass(frozen=True, slots=True)
class _Option:
    command: str
    names: str
    about: str

    @property
    def flag(self) -> str:
        """The last of its names, without a value; "" if none can be said in one word, as `--[no-]sparse`."""
        found = re.findall(r"(?<!\S)--?\w[\w-]*", self.names)
        return str(found[-1]) if found else ""

    @property
    def sentence(self) -> str:
        """The first sentence about it; "" if that is too short, or no sentence."""
        found = _SENTENCE.match(self.about)
        return found[0] if found else ""


def manual(source: random.Random) -> Draft:
    """Make manual pages with the options of commands."""
    options = [*_git_options(), *_made_up_options(source)]
    files: dict[str, str] = {}
    questions = []
    for command in dict.fromkeys(option.command for option in options):
        name = f"{command}.1.txt"
        listed = [option for option in options if option.command == command]
        text = f"{command.upper()}(1)\n\nNAME\n       {command} - see the options below\n\nOPTIONS\n"
        for option in listed:
            text += f"       {option.names}\n           {option.about}\n\n"
        files[name] = text
        for i, option in enumerate(listed):
            if not (option.sentence and option.flag) or sum(other.sentence == option.sentence for other in options) > 1:
                continue
            if sum(option.names in other.names for other in listed) > 1:
                continue
            spoken, flag = command.replace("-", " "), option.flag
            wish = option.sentence[0].lower() + option.sentence[1:-1]
            if i % 2:
                text_of, answer = (
                    f"What happens when I call {spoken} with {flag}?",
                    " ".join(option.sentence.split()[:4]),
                )
            elif option.sentence.split()[0] not in _NOT_A_COMMAND:
                text_of, answer = f"I want {spoken} to {' '.join(wish.split()[:14])}; which option is that?", flag
            else:
                continue
            questions.append(KindQuestion(text_of, answer, (option.names, option.sentence), (name,)))
    return files, questions


def _git_options() -> Iterator[_Option]:
    for command in _COMMANDS:
        path = _MAN_FOLDER / f"{command}.1.gz"
        if not path.exists():
            continue
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        for pattern, replacement in _ROFF:
            text = pattern.sub(replacement, text)
        for found in _OPTION.finditer(text):
            yield _Option(command, found["names"], " ".join(found["about"].split()))


_VERBS = (
    "Skip every file that was changed less than {n} minutes ago.",
    "Stop after {n} errors and print a summary of what was done.",
    "Write at most {n} lines into one output file and begin another.",
    "Wait up to {n} seconds for the lock before giving up with status 75.",
    "Keep the last {n} copies of each archive and delete older ones.",
    "Read the list of folders from {n} or more file descriptors at once.",
)
_FLAGS = (
    "--min-age=MINUTES",
    "--max-errors=N",
    "--split-lines=N",
    "--lock-wait=SECONDS",
    "--rotate=COPIES",
    "--fan-in=N",
)


def _made_up_options(source: random.Random) -> Iterator[_Option]:
    numbers = source.sample(range(10, 99), 30)
    for i, command in enumerate(("arcsync", "mirrord", "packwatch", "tapecopy", "dirsweep")):
        for j, (flag, about) in enumerate(zip(_FLAGS, _VERBS, strict=True)):
            sentence = about.format(n=numbers[i * 6 + j])
            yield _Option(command, flag, f"{sentence} The default suits most uses of {command}.")


# The API of a service that is made up, and that of modules of the standard library

_MODULES = ("shutil", "textwrap", "heapq", "glob", "posixpath", "tempfile")
_RESOURCES = "invoices shipments coupons tenants sensors tickets payouts drivers menus leases grants badges".split()


def api_reference(source: random.Random) -> Draft:
    """Make the reference of a web service and of Python modules, in Markdown."""
    files, questions = _service(source)
    for module_name in _MODULES:
        module = importlib.import_module(module_name)
        name = f"{module_name}.md"
        text = f"# Module `{module_name}`\n\n"
        described = []
        for member in sorted(getattr(module, "__all__", vars(module))):
            function = getattr(module, member)
            if not inspect.isfunction(function) or member.startswith("_") or not function.__doc__:
                continue
            docstring = inspect.cleandoc(function.__doc__)
            signature = f"{module_name}.{member}{inspect.signature(function)}"
            text += f"## `{signature}`\n\n{docstring}\n\n"
            first = docstring.partition("\n\n")[0]
            if first.endswith(".") and 30 < len(first) < 200 and first[0].isupper():
                described.append((member, f"{module_name}.{member}", first))
        if not described:
            continue
        files[name] = text
        for i, (member, signature, first) in enumerate(described):
            wish = " ".join((first[0].lower() + first[1:]).rstrip(".").split()[:14])
            question = (
                f"What is {module_name}.{member} for?"
                if i % 2
                else f"Which function of {module_name} do I need to {wish}?"
            )
            answer = " ".join(first.split()[:4]) if i % 2 else member
            questions.append(KindQuestion(question, answer, (signature, first), (name,)))
    return files, questions


def _service(source: random.Random) -> tuple[dict[str, str], list[KindQuestion]]:
    name = "rest-api.md"
    text = "# Ledger web service, version 2\n\n"
    questions = []
    limits, sizes = source.sample(range(20, 200), 24), source.sample(range(201, 900), 24)
    owners = people(source, 12)
    for i, resource in enumerate(_RESOURCES):
        singular = resource[:-1]
        for j, (method, path, about) in enumerate(
            (
                ("GET", f"/v2/{resource}", f"Lists the {resource} that the caller may see, newest first."),
                (
                    "DELETE",
                    f"/v2/{resource}/{{id}}",
                    f"Marks the {singular} as deleted; it can be restored for a while.",
                ),
            )
        ):
            limit, size = limits[2 * i + j], sizes[2 * i + j]
            heading = f"{method} {path}"
            facts = (
                f"Rate limit: {limit} calls a minute.",
                f"Scope: `{resource}.{'read' if j == 0 else 'admin'}`. Contact: {owners[i]}.",
                f"Largest page: {size} entries." if j == 0 else f"Kept for {size} hours.",
            )
            text += f"## {heading}\n\n{about}\n\n" + "".join(f"- {fact}\n" for fact in facts) + "\n"
            ask = (
                (f"How often per minute may I fetch the list of {resource}?", f"{limit}", facts[0])
                if j == 0
                else (f"For how many hours can a deleted {singular} be brought back?", f"{size} hours", facts[2])
            )
            questions.append(KindQuestion(ask[0], ask[1], (heading, ask[2]), (name,)))
    return {name: text}, questions
