"""Answers that belong to another version, option, row, document or part of a sentence."""

import pytest

from leanrag import Chunk, Hit
from leanrag.grounding import ground
from leanrag.types import PackedItem, Segment
from tests.grounding.judging import is_supported

NEWS = "* Changes in release 2.4.1 (2022-02-26)\n\n** Fix a crash\n\n* Changes in release 2.4.0 (2021-09-07)\n\n** Hide passwords\n"
TABLE = "1.1.0     2022-12-11    Added a filter\n\n1.0.4     2009-08-27    Mended sections\n\n1.0.3     2009-06-05    Mended words"
OPTIONS = (
    "The passphrase can be changed with the -p option.\n\nThe program writes the old format with the -m flag. This may be used"
    " to convert keys in conjunction with the -w flag."
)
FAQ = (
    "7. Why do you not use autoconf or libtool?\n\n    Because we keep it small.\n\n"
    "8. What do I need to build it?\n\n    You need the glibc-static package.\n"
)
QUALITY = "Quality is 0 (worst) to 100 (best); default is 75."
KEYS = (
    "For RSA keys, the default size is 3072 bits. For ECDSA keys, the flag gives the key length: 256, 384 or 521 bits."
)
TERMS = (
    '1.6. "Executable Form"\n    means any form other than the source.\n\n'
    '1.13. "Source Code Form"\n    means the form for making changes.\n'
)
CODES = "gsed = the GNU editor\nLHS  = the left-hand side of a command\nRHS  = the right-hand side of a command"
TREATY = "The treaty was signed by Count Brahe for Sweden and by Otto Skeel for Denmark."
TRIGGERS = (
    "There are two kinds of hooks:\n * Plain hooks. They are started by running the hook tool.\n"
    " * File hooks. They are started by magic code."
)


@pytest.mark.parametrize(
    ("text", "question", "right", "wrong"),
    [
        (NEWS, "Which release came out on 2021-09-07?", "2.4.0", "2.4.1"),
        (TABLE, "When was version 1.0.4 released?", "2009-08-27", "2022-12-11"),
        (OPTIONS, "Which flag writes the old format?", "-m", "-p"),
        (FAQ, "Which package do I need?", "glibc-static", "libtool"),
        (QUALITY, "What is the default quality?", "75", "100"),
        (KEYS, "What is the default size of RSA keys?", "3072 bits", "521 bits"),
        (TERMS, "What is Executable Form?", "any form other than the source", "the form for making changes"),
        (CODES, "What does LHS mean?", "the left-hand side", "the right-hand side"),
        (
            "Get a snapshot from the gcc-snapshot package.",
            "Which package has a GCC snapshot?",
            "gcc-snapshot",
            "gcc-doc",
        ),
        ("Abgabe: 31. Mai\nRuhe: 4. Juni", "Wann ist die Abgabe?", "31. Mai", "4. Juni"),
        (TREATY, "Who signed for Denmark?", "Otto Skeel", "Count Brahe"),
        ("-h shows help\n\n-H hashes a file", "Which option hashes a file?", "-H", "-h"),
        (TRIGGERS, "How are plain hooks started?", "by running the hook tool", "by magic code"),
        ("See RFC4716 for the keys.", "Which RFC is about the keys?", "RFC 4716", "RFC 4761"),
        ("See RFC 4716 for the keys.", "Which document is about the keys?", "RFC4716", "RFC4761"),
        ("Members pay a fee of 5 euros, and guests a fee of 8.", "Which fee do members pay?", "5", "8"),
    ],
)
def test_judges_by_what_belongs_together(text, question, right, wrong):
    assert is_supported(text, question, right)
    assert not is_supported(text, question, wrong)


def items(*texts):
    for number, text in enumerate(texts, 1):
        hit = Hit(Chunk(f"d{number}", 0, len(text), text), 1.0)
        yield PackedItem(number, hit, text, (Segment(0, len(text), 0, 0, len(text)),), 1)


def test_an_answer_from_another_document_is_refused():
    manuals = list(items("NAME: crop\n\nWritten by Ada Lie.", "NAME: blur\n\nWritten by Bo Ek."))
    assert ground("Who wrote crop?", "Ada Lie", manuals).is_supported
    assert not ground("Who wrote crop?", "Bo Ek", manuals).is_supported
