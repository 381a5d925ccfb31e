"""The example programs run."""

import pytest

import leanrag
from examples import demo
from leanrag.testing import FakeModel, HashEmbedder


def first_sentence_of_the_first_source(prompt):
    return prompt.split("\n", 1)[1].split(". ")[0] + "."


@pytest.mark.slow
def test_the_demo_with_stand_ins(tmp_path, monkeypatch, capsys):
    opened = leanrag.open
    model = FakeModel(first_sentence_of_the_first_source)
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    monkeypatch.setattr(leanrag, "pull", lambda name: name)
    monkeypatch.setattr(leanrag, "open", lambda path, **_: opened(path, model=model, embedder=HashEmbedder(dim=256)))
    demo.main()
    first = capsys.readouterr().out
    assert "(0 unchanged)" in first
    assert first.count("=== ") == len(demo.QUESTIONS)
    assert first.count("(Not supported by the sources.)") >= 1  # the last question
    assert '[1] "' in first
    demo.main()
    assert "(0 unchanged)" not in capsys.readouterr().out
