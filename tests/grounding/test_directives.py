"""Directives and fields of reStructuredText."""

import pytest

from leanrag.grounding.directives import directive_of, spell_out_directive
from tests.grounding.judging import is_supported


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (".. versionadded:: 2.0", "versionadded", "added in version 2.0"),
        (".. py:function:: cut(depth=4)", "function", "function cut(depth=4)"),
        (".. code-block:: sh", "code-block", "code block sh"),
        (":param int size: How large.", "param", "parameter int size: How large."),
        (":rtype: bool", "rtype", "return type: bool"),
        (":Author: Lotte", "Author", "Author: Lotte"),
        ("Note: this", "", "Note: this"),
        (".. a comment", "", ".. a comment"),
        (":-) : ", "", ":-) : "),
    ],
)
def test_spells_them_out(text, name, expected):
    assert directive_of(text) == name
    assert spell_out_directive(text) == expected


API = """Shelf
=====

.. function:: fetch(path, retries=6)

   :param retries: How often to try again.
   :raises LockError: Another process has the shelf.
   :returns: A shelf.

   .. deprecated:: 4.1
      Use dial instead.

.. function:: dial(url, timeout=12)

   :raises DialError: The host does not answer.
   :returns: A line.

   .. versionadded:: 4.0

.. envvar:: SHELF_HOME

   Folder of the settings.

.. envvar:: SHELF_TEMP

   Folder of temporary files.
"""
SETTINGS = (
    ".. confval:: tide_zone\n\n   :type: str\n   :default: Oslo\n\n"
    ".. confval:: tide_rows\n\n   :type: int\n   :default: 24\n"
)
RANGE = ".. method:: weave(rows, tension=3)\n\n   :param int tension: From 1 to 9.\n"
FIELDS = (
    ":Author: Lotte Brandis\n:Reviewer: Carlo Venn\n:Status: Draft\n\nTide tables\n===========\n\nThey end in 2031."
)


@pytest.mark.parametrize(
    ("text", "question", "right", "wrong"),
    [
        (API, "What is the default of retries?", "6", "12"),
        (API, "What is the default timeout of dial?", "12", "6"),
        (API, "Which error does dial raise?", "DialError", "LockError"),
        (API, "In which version was dial added?", "4.0", "4.1"),
        (API, "Since which version is fetch deprecated?", "4.1", "4.0"),
        (API, "Which environment variable sets the folder of the settings?", "SHELF_HOME", "SHELF_TEMP"),
        (SETTINGS, "What is the default of tide_zone?", "Oslo", "24"),
        (RANGE, "What is the default of tension?", "3", "9"),
        (FIELDS, "Who reviewed the tables?", "Carlo Venn", "Lotte Brandis"),
        ("Orm deprecates orm.old in favour of orm.core.", "Which module is deprecated?", "orm.old", "orm.core"),
        ("The pen is obsolete. Use the brush instead.", "What is obsolete?", "the pen", "the brush"),
    ],
)
def test_judges_by_them(text, question, right, wrong):
    assert is_supported(text, question, right)
    assert not is_supported(text, question, wrong)
