"""Contracts and release notes."""

from __future__ import annotations

import gzip
import random
import re
from pathlib import Path

from benchmarks.kinds.material import Draft, KindQuestion
from benchmarks.kinds.vocabulary import CITIES

__all__ = ["legal", "releases"]

_CLAUSES = (
    (
        "Termination",
        "Either party may end this agreement with {n} days' written notice. A breach that is not cured ends it at once.",
        "How much notice is needed to leave the contract with {f}?",
        "{n} days",
    ),
    (
        "Payment",
        "{f} pays each invoice within {m} days of its receipt. Late sums bear interest at the statutory rate.",
        "By when must {f} settle an invoice?",
        "{m} days",
    ),
    (
        "Governing law",
        "This agreement is governed by the law in force in {c}. The courts of that place have jurisdiction.",
        "Which place's law applies to the agreement with {f}?",
        "{c}",
    ),
    (
        "Liability",
        "The liability of {f} is limited to {k} thousand euros a year. This does not apply to intent.",
        "Up to what sum is {f} liable?",
        "{k} thousand",
    ),
    (
        "Confidentiality",
        "Each party keeps the other's information secret for {y} months after the end of this agreement.",
        "For how long after its end must secrets from the {f} agreement be kept?",
        "{y} months",
    ),
)
_FIRMS = (
    "Harbor Foods|Nordic Paper|Alpine Glass|Delta Freight|Union Textiles|Meridian Water|Orchard Media|Granite Homes|"
    "Lantern Energy|Cobalt Marine|Willow Health|Summit Rail"
).split("|")


def legal(source: random.Random) -> Draft:
    """Make contracts with the same clauses, other parties and other numbers."""
    firms, cities = source.sample(_FIRMS, 10), source.sample(CITIES, 10)
    days, terms = source.sample(range(11, 60), 10), source.sample(range(61, 99), 10)
    sums, months = source.sample(range(100, 999), 10), source.sample(range(11, 60), 10)
    files: dict[str, str] = {}
    questions = []
    for i, firm in enumerate(firms):
        name = f"agreement-{firm.lower().replace(' ', '-')}.txt"
        text = f"SERVICE AGREEMENT between Castellan Services Ltd and {firm}\n\n"
        for j, (title, clause, question, short) in enumerate(_CLAUSES):
            values = {"f": firm, "n": days[i], "m": terms[i], "c": cities[i], "k": sums[i], "y": months[i]}
            clause = clause.format(**values)
            text += f"{j + 4}. {title}\n{j + 4}.1 {clause}\n{j + 4}.2 Changes of this clause need the written form.\n\n"
            spans = (clause.partition(". ")[0],)
            questions.append(KindQuestion(question.format(**values), short.format(**values), spans, (name,)))
        files[name] = text
    return files, questions


_CHANGES = (
    (
        "Fixed",
        "Exports with more than {n} columns no longer fail.",
        "In which release could wide exports of over {n} columns be made again?",
    ),
    (
        "Added",
        "A search field for the list of {c} stations.",
        "Since which version can one search among the {c} stations?",
    ),
    ("Changed", "The session now lasts {n} minutes.", "Which version set the length of a session to {n} minutes?"),
    (
        "Removed",
        "Support for protocol {n} was dropped.",
        "When did protocol {n} stop to be supported, in which version?",
    ),
)


def releases(source: random.Random) -> Draft:
    """Make release notes with versions that are easily confused, and take changelogs of Debian packages."""
    files, questions = _debian_changelogs()
    versions = list(dict.fromkeys(f"{a}.{b}.{c}" for a in (1, 2, 3) for b in (1, 2, 3, 10, 12) for c in (1, 2, 3, 10)))
    versions = source.sample(versions, 24)
    numbers, cities = source.sample(range(100, 999), 48), source.sample(CITIES, 48)
    made = []
    for part in range(2):
        name = f"CHANGELOG-{part + 1}.md"
        text = "# Changelog\n\n"
        for i in range(part * 12, part * 12 + 12):
            heading = f"{versions[i]} (2023-{i % 12 + 1:02}-{(5 * i) % 28 + 1:02})"
            text += f"## {heading}\n\n"
            for j in (2 * i, 2 * i + 1):
                section, change, question = _CHANGES[(j + i) % 4]
                values = {"n": numbers[j], "c": cities[j]}
                change = change.format(**values)
                text += f"### {section}\n\n- {change}\n\n"
                asked = question.format(**values)
                made.append(KindQuestion(asked, versions[i], (heading, change), (name,), key=change))
            topic = section.lower()
            made.append(
                KindQuestion(
                    f"What was {topic} in version {versions[i]}?",
                    change.rstrip("."),
                    (heading, change),
                    (name,),
                    key=heading,
                )
            )
        files[name] = text
    return files, [question for pair in zip(made[::2], made[1::2], strict=False) for question in pair] + questions


_DOC = Path("/usr/share/doc")
_PACKAGES = ("bash", "apt", "base-files", "coreutils", "findutils")
_ENTRY = re.compile(r"^(?P<head>[a-z0-9.+-]+ \([^)\n]+\))[^\n]*\n(?P<body>.*?)^ -- ", re.MULTILINE | re.DOTALL)
_BUG = re.compile(r"^ +[*+-] (?P<item>[^\n]{20,110}?)\s*\(?Closes: #(?P<bug>\d+)\)?", re.MULTILINE)
_ENTRIES_OF_A_PACKAGE, _ENTRY_CHARS = 20, 800


def _debian_changelogs() -> tuple[dict[str, str], list[KindQuestion]]:
    """Return the newest entries of changelogs on this machine, and questions for the version that closed a bug."""
    files: dict[str, str] = {}
    questions = []
    for package in _PACKAGES:
        names = (_DOC / package / f"changelog{suffix}.gz" for suffix in (".Debian", ""))
        path = next((path for path in names if path.exists()), None)
        if path is None:
            continue
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        entries = list(_ENTRY.finditer(text))[:_ENTRIES_OF_A_PACKAGE]
        entries = [entry for entry in entries if len(entry[0]) < _ENTRY_CHARS]
        if len(entries) < 3:
            continue
        name = f"{package}.changelog.txt"
        files[name] = "".join(f"{entry[0]}\n\n" for entry in entries)
        for entry in entries:
            for found in list(_BUG.finditer(entry["body"]))[:2]:
                if files[name].count(f"#{found['bug']}") > 1:
                    continue
                version = re.sub(r".*\((.*)\)", r"\1", entry["head"])
                asked = f"Which version of the package {package} closed bug {found['bug']}?"
                spans = (entry["head"], " ".join(found["item"].split()[-3:]), f"#{found['bug']}")
                questions.append(KindQuestion(asked, version, spans, (name,)))
    return files, questions
