"""The benchmark `kinds`; run it with `python -m benchmarks.kinds`.

`make_kinds` returns the documents and questions; the programs that tune the library use those of the half `tuned` alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from benchmarks.kinds import faq, guides, languages, papers, records, tables, talk
from benchmarks.kinds.material import Draft, Generator, Half, Kind, KindQuestion, contains_span, draw

__all__ = ["HALVES", "QUESTIONS", "Draft", "Half", "Kind", "KindQuestion", "contains_span", "make_kinds"]

QUESTIONS = 40
"""Questions of each kind."""

_TUNED: Mapping[str, Generator] = {
    "faq_headings": faq.faq_headings,
    "faq_bold": faq.faq_bold,
    "how_to": guides.how_to,
    "table_markdown": tables.markdown_table,
    "csv": tables.csv_table,
    "chat": talk.chat,
    "tickets": talk.tickets,
    "log": records.log,
    "yaml": records.yaml_configuration,
    "legal": papers.legal,
    "releases": papers.releases,
    "korean": languages.korean,
}
_HELD_OUT: Mapping[str, Generator] = {
    "faq_pairs": faq.faq_pairs,
    "faq_details": faq.faq_details,
    "manual": guides.manual,
    "api": guides.api_reference,
    "table_html": tables.html_table,
    "mail": talk.mail,
    "subtitles": talk.subtitles,
    "minutes": talk.minutes,
    "source_code": records.source_code,
    "json": records.json_configuration,
    "french": languages.french,
    "japanese": languages.japanese,
    "thai": languages.thai,
}
_TUNED_LANGUAGES = {"german": "de", "chinese": "zh", "hindi": "hi"}
_HELD_OUT_LANGUAGES = {"spanish": "es", "arabic": "ar"}

HALVES: Mapping[str, Half] = {
    **dict.fromkeys((*_TUNED, *_TUNED_LANGUAGES), "tuned"),
    **dict.fromkeys((*_HELD_OUT, *_HELD_OUT_LANGUAGES), "held-out"),
}
"""Which half each kind belongs to. Each family of documents has kinds in both."""


def make_kinds(
    data: Path | None = None, *, n: int = QUESTIONS, seed: int = 0, half: Half | None = None
) -> tuple[Kind, ...]:
    """Return the kinds of document, the same for the same arguments and the same files on this machine.

    Args:
        data: Folder of the data sets; without it the languages that are read from there are missing.
        n: Questions of each kind.
        seed: Of names, numbers and their order.
        half: One half of the kinds; None for both.
    """
    generators = {**_TUNED, **_HELD_OUT}
    if data is not None:
        codes = {**_TUNED_LANGUAGES, **_HELD_OUT_LANGUAGES}
        generators |= {name: functools.partial(languages.xquad, data, code) for name, code in codes.items()}
    return tuple(
        draw(name, own_half, generators[name], n=n, seed=seed)
        for name, own_half in HALVES.items()
        if name in generators and half in (None, own_half)
    )
