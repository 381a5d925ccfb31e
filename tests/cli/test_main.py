"""The command: what it prints, in text and in JSON, and the codes it exits with."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import leanrag
from leanrag import models
from leanrag.cli import main as cli
from leanrag.cli import output, pull
from leanrag.cli import quantize as quantizing
from leanrag.cli.add import LIBRARIES
from leanrag.documents import moving
from leanrag.llama.files import check_gguf
from leanrag.llama.files.quantize import Figures, quantize
from leanrag.models import cache, fetching
from leanrag.pipeline import copies
from leanrag.pipeline.configuration import TunedSettings, read_settings
from leanrag.pipeline.defaults import default_models
from leanrag.testing import FakeModel, HashEmbedder

TEXT = "# Releases\n\nAda Park signs off releases. The next one is due in March.\n"
REPLY = "Ada Park signs off releases."


def stand_in(name):
    """A model that is wrong about every fourth release when it is small."""

    def reply(prompt):
        number = re.search(r"release (\d+)", prompt)
        return "Zebras graze." if number and int(number[1]) % 4 == 0 and name == "small" else REPLY

    return FakeModel(reply, name=name)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder with stand-in models; returns (exit code, standard output, standard error)."""
    opened = leanrag.open
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEANRAG_FOLDER", raising=False)

    def open_with_stand_ins(path, **settings):
        model = settings.get("model")
        if "config" in settings and model is None:
            config = read_settings(settings.pop("config"))
            settings |= config.arguments([stand_in(name) for name in config.models])
        elif isinstance(model, leanrag.Cascade):
            settings["model"] = dataclasses.replace(model, models=[stand_in(name) for name in model.models])
        else:
            settings["model"] = FakeModel(lambda prompt: replies[0])
        return opened(path, **(settings | {"embedder": HashEmbedder(dim=256)}))

    replies = [REPLY]
    monkeypatch.setattr(leanrag, "open", open_with_stand_ins)

    def run(*arguments, reply=REPLY):
        replies[0] = reply
        code = cli.main(arguments)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def filled(run, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "releases.md").write_text(TEXT, encoding="utf-8")
    (tmp_path / "docs" / "nile.txt").write_text("The Nile is long — très long.\n", encoding="utf-8")
    assert run("add", "docs", "--set", "team=core", "--set", "year=2026")[0] == output.OK
    return run


def answer_of(output: str) -> dict:
    lines = output.splitlines()
    assert len(lines) == 1  # one JSON value, for scripts that read lines
    return json.loads(lines[0])


# Documents


def test_add_reports_and_skips_what_it_knows(run, tmp_path):
    (tmp_path / "a.md").write_text(TEXT, encoding="utf-8")
    code, out, err = run("add", "a.md")
    assert (code, err) == (0, "")
    assert out.startswith("1 added; 1 chunk in ")
    code, out, _ = run("add", "a.md", "--json")
    report = answer_of(out)
    assert code == 0
    assert report["unchanged"] == [str(tmp_path / "a.md")]
    assert report["added"] == []


@pytest.mark.parametrize("verb", ["add", "sync"])
def test_adding_again_keeps_the_metadata(filled, verb):
    assert filled(verb, "docs")[0] == output.OK
    code, out, _ = filled("search", "Nile", "--where", "team=core", "--json")
    assert (code, len(answer_of(out))) == (0, 2)


def test_add_takes_the_texts_of_another_library(run):
    folder = Path(__file__).parent.parent / "documents" / "moving" / "folders" / "langchain"
    code, out, _ = run("add", "--from", "langchain", str(folder), "--set", "team=core")
    assert code == 0
    assert out.startswith("3 added;")
    code, out, _ = run("search", "Where do cars park?", "--where", "team=core", "--json")
    assert answer_of(out)[0]["chunk"]["document_id"] == "langchain:three"
    assert run("add", "--from", "chroma", str(folder))[0] == output.FAILED
    code, _, err = run("add", "--from", "langchain", str(folder), "--pattern", "*.md")
    assert code == output.USAGE
    assert "`--from` takes texts" in err


def test_add_takes_the_libraries_that_can_be_read():
    assert sorted(moving.LIBRARIES) == sorted(LIBRARIES)


def test_add_goes_on_after_a_bad_file(run, tmp_path):
    (tmp_path / "good.md").write_text(TEXT, encoding="utf-8")
    (tmp_path / "bad.txt").write_bytes(b"\x00\x01\x02binary")
    code, out, _ = run("add", "good.md", "bad.txt")
    assert code == output.PARTIAL == 4
    assert out.splitlines()[0].startswith("1 added, 1 failed;")
    assert "failed: " in out
    assert "bad.txt" in out
    code, out, _ = run("add", "good.md", "bad.txt", "--json")
    report = answer_of(out)
    assert code == 4
    assert [failure["source"] for failure in report["failed"]] == ["bad.txt"]
    assert "is not a text file" in report["failed"][0]["error"]


def test_remove_takes_a_folder_away(filled):
    assert filled("remove", "docs")[:2] == (0, "removed 2 documents\n")
    code, _, err = filled("remove", "docs", "--json")
    assert code == output.FAILED == 1
    assert "has no document 'docs'" in err


def test_stats_count(filled, tmp_path):
    code, out, _ = filled("stats", "--json")
    stats = answer_of(out)
    assert code == 0
    assert (stats["documents"], stats["chunks"]) == (2, 2)
    assert filled("stats")[1].splitlines()[0].split() == ["documents", "2"]


# Questions


def test_ask_prints_answer_quote_and_receipt(filled, tmp_path):
    code, out, _ = filled("ask", "Who signs off releases?")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "Ada Park signs off releases [2]."  # the best source stands last
    start = TEXT.index("Ada")
    assert lines[2] == '[2] "Ada Park signs off releases."'
    assert lines[3] == f"    {tmp_path / 'docs' / 'releases.md'} [{start}:{start + 28}]"
    assert lines[-1].startswith("fake: ")
    assert " tokens, " in lines[-1]


def test_ask_as_json_is_the_whole_answer(filled):
    code, out, _ = filled("ask", "Who signs off releases?", "--json")
    answer = answer_of(out)
    assert code == 0
    assert answer["text"] == "Ada Park signs off releases [2]."
    assert answer["is_supported"] is True
    assert answer["citations"][0]["quote"] == "Ada Park signs off releases."
    assert answer["usage"]["completion_tokens"] > 0
    assert [stage["name"] for stage in answer["trace"]] == [
        "budget",
        "retrieve",
        "pack",
        "prompt",
        "generate",
        "ground",
        "confidence",
    ]


def test_ask_uses_the_settings_of_a_file(filled, tmp_path):
    settings = TunedSettings(models=("tuned",), k=1, context_tokens=(40,), packer="greedy", threshold=None)
    settings.save(tmp_path / "settings.json")
    code, out, _ = filled("ask", "Who signs off releases?", "--config", "settings.json", "--json")
    answer = answer_of(out)
    assert (code, answer["model"]) == (output.OK, "tuned")
    packing = answer["packing"]
    assert (packing["budget"], len(packing["items"]) + len(packing["dropped"])) == (40, 1)


@pytest.mark.parametrize("command", ["ask", "explain", "chat"])
def test_settings_of_a_file_and_of_options_do_not_mix(filled, tmp_path, command):
    settings = TunedSettings(models=("tuned",), k=1, context_tokens=(40,), packer="greedy", threshold=None)
    settings.save(tmp_path / "settings.json")
    question = [] if command == "chat" else ["Who?"]
    code, _, err = filled(command, *question, "--config", "settings.json", "--model", "small")
    assert code == output.USAGE
    assert "`config` sets `model`" in err


def test_an_unsupported_answer_has_its_own_code(filled):
    code, out, _ = filled("ask", "Who signs off releases?", reply="Zebras graze in Mongolia.")
    assert code == output.UNSUPPORTED == 3
    assert "(Not supported by the sources.)" in out
    assert filled("ask", "Who signs off releases?", "--where", "team=other")[0] == 3  # nothing found


@pytest.mark.parametrize(
    ("command", "field"),
    [("search", 0), ("ask", "question"), ("explain", "question")],
    ids=["search", "ask", "explain"],
)
def test_a_question_needs_no_quotes(filled, command, field):
    shown = [
        json.loads(filled(command, *words, "--json")[1])[field]
        for words in (["Who", "signs", "off", "releases?"], ["Who signs off releases?"])
    ]
    assert shown[0] == shown[1]


def test_search_lists_hits(filled):
    code, out, _ = filled("search", "releases", "-k", "1")
    assert code == 0
    assert out.startswith("1. releases.md [")
    assert "Ada Park signs off releases." in out
    (hit,) = answer_of(filled("search", "releases", "-k", "1", "--json")[1])
    assert hit["chunk"]["title"] == "releases.md"
    code, out, _ = filled("search", "releases", "--where", "year=1999")
    assert (code, out) == (3, "nothing was found\n")


def test_metadata_keeps_its_type(filled):
    assert filled("search", "releases", "--where", "year=2026")[0] == 0
    assert filled("search", "releases", "--where", 'year="2026"')[0] == 3  # a text is not a number
    code, _, err = filled("search", "releases", "--where", "year")
    assert code == output.USAGE == 2
    assert "KEY=VALUE, got 'year'" in err


def test_explain_shows_the_prompt_and_sends_nothing(filled):
    code, out, _ = filled("explain", "Who signs off releases?", "--context-tokens", "100")
    assert code == 0
    assert "model   fake, window" in out
    assert "[1] kept" in out
    assert "Who signs off releases?" in out
    plan = answer_of(filled("explain", "Who signs off releases?", "--json")[1])
    assert plan["prompt_tokens"] + plan["max_tokens"] <= plan["n_ctx"]
    code, out, _ = filled("explain", "Who?", "--where", "team=other")
    assert "nothing was found: no model would be asked" in out


# Several models

TWO = ("--model", "small", "--model", "large")


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [{"question": f"Who signs off release {n}?", "answers": ["Ada Park"]} for n in range(120)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path.name


@pytest.mark.slow
def test_calibrate_prints_what_it_found_and_ask_uses_it(filled, rows, tmp_path):
    code, out, err = filled("calibrate", rows, *TWO, "--out", "small.json")
    assert (code, err) == (0, "")
    found = leanrag.Calibration.load(tmp_path / "small.json")
    assert out.splitlines() == [
        "small, then large (labelled)",
        f"  least passed on  {found.least_escalated:.1%}, by every method with a risk of at most 0.05",
        "  rows             60 to learn from, 60 to certify with",
        f"  kept             {found.kept:.1%}",
        "  bound            0.0376, with probability 0.9",
        "  AUROC            1.000",
        f"  ECE              {found.ece:.3f}",
        "  small.json",
    ]
    for number, model in ((1, "small"), (4, "large")):
        answer = answer_of(
            filled("ask", f"Who signs off release {number}?", *TWO, "--calibration", "small.json", "--json")[1]
        )
        assert (answer["model"], answer["steps"][0]["model"], answer["calibrated"]) == (model, "small", number == 1)
    (shown,) = answer_of(filled("calibrate", rows, *TWO, "--out", "small.json", "--json")[1])
    assert (shown["label_source"], shown["losses"]) == ("labelled", 0)
    assert filled("explain", "Who?", *TWO)[1].startswith("model   small, window")


@pytest.mark.slow
def test_calibrate_says_when_nothing_can_be_kept(filled, tmp_path):
    same = "Who signs off release 4?"  # alike in every signal, right or wrong
    lines = [{"question": same, "answers": ["Ada Park" if n % 4 else "Zebras"]} for n in range(120)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    code, out, _ = filled("calibrate", "rows.jsonl", *TWO, "--out", "out.json")
    assert code == 0
    assert out.splitlines()[3] == "  kept             0.0%, because nothing can be certified"
    assert leanrag.Calibration.load(tmp_path / "out.json").threshold is None


def test_calibrate_asks_nobody_when_the_rows_are_too_few(filled, rows, tmp_path):
    code, out, err = filled("calibrate", rows, *TWO, "--out", "out.json", "--alpha", "0.01")
    assert (code, out) == (2, "")
    assert "120 questions cannot certify a risk of at most 0.01 with probability 0.9: at least 460 are needed" in err
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "small", "--out", "a.json", "--out", "b.json"], 2, "got 1 times `--model` and 2 times `--out`"),
        (["--out", "a.json"], 2, "Pass `--model` for each model"),
        (
            [*TWO, "--out", "a.json", "--out", "b.json", "--out", "c.json"],
            2,
            "got 2 times `--model` and 3 times `--out`",
        ),
        ([*TWO, "--out", "nowhere/a.json"], 2, "the folder of 'nowhere/a.json' does not exist"),
        ([*TWO, "--out", "a.json", "--alpha", "2"], 2, "`alpha` must be in (0, 1), got 2.0"),
        ([*TWO, "--out", "a.json", "--where", "team"], 2, "KEY=VALUE"),
    ],
)
def test_calibrate_names_what_is_wrong(filled, rows, tmp_path, arguments, code, message):
    shown = filled("calibrate", rows, *arguments)
    assert (shown[0], message in shown[2]) == (code, True)
    assert not (tmp_path / "a.json").exists()


@pytest.mark.slow
def test_files_that_cannot_be_used_are_named(filled, rows, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"question": "Who?"}\n{"question": }\n', encoding="utf-8")
    code, _, err = filled("calibrate", "bad.jsonl", *TWO, "--out", "a.json")
    assert (code, "line 2 of 'bad.jsonl' is not a question" in err) == (1, True)
    code, _, err = filled("calibrate", "none.jsonl", *TWO, "--out", "a.json")
    assert (code, "cannot read the questions 'none.jsonl'" in err) == (1, True)
    assert filled("calibrate", rows, *TWO, "--out", "a.json")[0] == 0
    code, _, err = filled("ask", "Who?", "--model", "small", "--model", "huge", "--calibration", "a.json")
    assert (code, "was made for 'small' and 'large'" in err) == (2, True)
    code, _, err = filled("ask", "Who?", "--calibration", "a.json")
    assert (code, f"the cascade has {default_models()[0]!r}" in err) == (2, True)
    whole = (tmp_path / "a.json").read_bytes()
    (tmp_path / "a.json").write_bytes(whole[:-100])
    code, _, err = filled("ask", "Who?", *TWO, "--calibration", "a.json")
    assert (code, "cut short" in err) == (1, True)
    (tmp_path / "a.json").write_bytes(whole.replace(b'"losses": 0', b'"losses": 1'))
    code, _, err = filled("ask", "Who?", *TWO, "--calibration", "a.json")
    assert (code, "changed after it was written" in err) == (1, True)


@pytest.mark.slow
def test_calibrate_says_when_nothing_is_learnt_of_the_last_model(filled, rows, tmp_path):
    code, out, _ = filled("calibrate", rows, *TWO, "--out", "a.json", "--out", "b.json")
    assert (code, out.splitlines()[-1]) == (0, "large: the last model has no calibration, so b.json was not written")
    assert [path.name for path in tmp_path.glob("[ab].json")] == ["a.json"]


@pytest.mark.slow
def test_a_model_alone_is_calibrated_and_asked_with_what_was_learnt(filled, rows, tmp_path):
    code, out, _ = filled("calibrate", rows, "--model", "small", "--alpha", "0.3", "--out", "a.json")
    assert code == 0
    assert out.splitlines()[:3] == [  # nothing is passed on, and nothing kept for a bound
        "small (labelled)",
        "  rows             60 to learn from, 60 to judge it by",
        "  AUROC            1.000",
    ]
    code, out, _ = filled("ask", "Who signs off release 1?", "--model", "small", "--calibration", "a.json", "--json")
    assert (code, json.loads(out)["calibrated"]) == (0, True)


def test_an_answer_that_is_not_sure_enough_is_not_shown(filled, rows):
    code, out, _ = filled("ask", "Who signs off release 4?", "--model", "small", "--abstain-below", "1", "--json")
    shown = json.loads(out)
    assert (code, shown["text"], shown["abstained"]) == (3, "The sources do not answer this question.", True)


# Models and the machine


def test_pull_and_list(run, tiny_gguf, tmp_path, monkeypatch):
    path = tiny_gguf
    monkeypatch.setattr(models, "pull", lambda name, **options: path)
    code, out, _ = run("pull", "smollm2-135m")
    assert (code, out) == (0, f"smollm2-135m: Apache-2.0, 98 MB\n  {path}\n")
    assert answer_of(run("pull", "smollm2-135m", "--json")[1]) == {"smollm2-135m": str(path)}
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path / "empty"))
    code, out, _ = run("list")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["NAME", "KIND", "MB", "LICENCE", "PATH"]
    assert rows[1] == ["smollm2-135m", "gguf", "98", "Apache-2.0", "not", "pulled"]
    assert answer_of(run("list", "--json")[1])[0]["spec"]["name"] == "smollm2-135m"


def test_the_terms_are_shown_before_a_pull_and_must_be_accepted(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path / "empty"))
    code, out, err = run("pull", "gemma3-270m")
    assert code == 2
    assert "Gemma Terms of Use" in out
    assert "--accept-terms" in err
    assert not (tmp_path / "empty").exists()


@pytest.fixture
def pulled(tiny_gguf, tmp_path, monkeypatch):
    """The tiny model as `smollm2-135m`, in a cache of its own."""
    data = tiny_gguf.read_bytes()
    file = models.ModelFile("tiny.gguf", len(data), hashlib.sha256(data).hexdigest(), ())
    spec = models.ModelSpec("smollm2-135m", "gguf", "MIT", (file,))
    for module in ("models", "models.registry", "pipeline.copies"):
        monkeypatch.setattr(f"leanrag.{module}.REGISTRY", {spec.name: spec})
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "_open_source", lambda *_: iter([io.BytesIO(data)]))
    return cache.folder_of(spec)


@pytest.mark.slow
def test_pull_makes_a_copy_of_another_type(run, pulled):
    code, out, err = run("pull", "smollm2-135m", "--type", "q8_0")
    copy = pulled / "q8_0" / "smollm2-135m.q8_0.gguf"
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == [f"  {pulled / 'tiny.gguf'}", f"  smollm2-135m:q8_0  {copy}"]
    assert check_gguf(models.resolve("smollm2-135m:q8_0")).tensor_types == {"Q8_0": 9, "F32": 3}
    assert answer_of(run("pull", "smollm2-135m", "--type", "q8_0", "--json")[1]) == {
        "smollm2-135m": str(pulled / "tiny.gguf"),
        "smollm2-135m:q8_0": str(copy),
    }
    rows = [line.split() for line in run("list")[1].splitlines()]
    assert rows[2] == ["smollm2-135m:q8_0", "gguf", "0", "MIT", str(copy)]
    code, _, err = run("pull", "smollm2-135m", "--type", "q9")
    assert code == 2
    assert "`type` of a copy of 'smollm2-135m' must be one of" in err


@pytest.mark.parametrize(
    ("names", "kind", "reason"),
    [
        (["smollm2-135m"], "q9", "must be one of f32, f16"),
        (
            ["smollm2-135m", "hf:owner/repository/file.gguf"],
            "q4_0",
            "leanrag quantize hf:owner/repository/file.gguf OUT",
        ),
    ],
)
def test_the_type_is_checked_before_anything_is_fetched(run, pulled, names, kind, reason):
    code, out, err = run("pull", *names, "--type", kind)
    assert (code, out) == (2, "")
    assert reason in err
    assert not pulled.exists()


@pytest.mark.slow
def test_pull_says_what_would_be_faster(run, pulled, tiny_gguf, tmp_path, monkeypatch):
    slow = tmp_path / "slow.gguf"
    quantize(tiny_gguf, slow, type="q8_0")
    monkeypatch.setattr(models, "pull", lambda name, **options: slow)
    monkeypatch.setattr(pull.platform, "machine", lambda: "x86_64")
    advice = run("pull", "smollm2-135m")[1].splitlines()[2]
    assert advice.endswith("whether a copy is faster without a loss: leanrag pull smollm2-135m --type auto")
    assert answer_of(run("pull", "smollm2-135m", "--json")[1]) == {"smollm2-135m": str(slow)}
    monkeypatch.setattr(pull.platform, "machine", lambda: "arm64")
    assert len(run("pull", "smollm2-135m")[1].splitlines()) == 2


@pytest.mark.slow
def test_pull_makes_the_fastest_copy_without_a_loss(run, pulled, monkeypatch):
    shipped, exact, coarse = (
        Figures(100, speed, speed / 10, loss) for speed, loss in ((50, 9.0), (90, 9.1), (99, 9.9))
    )
    measured = []

    def measure_types(source, folder):
        measured.append(source)
        return {"as shipped": shipped, "q8_0": exact, "q4_0": coarse}

    monkeypatch.setattr(copies, "measure_types", measure_types)
    for _ in range(2):
        code, out, err = run("pull", "smollm2-135m", "--type", "auto")
        assert (code, err) == (0, "")
        rows = [line.split() for line in out.splitlines()]
        assert rows[4] == ["q8_0", "0", "90", "9.0", "9.10"]
        assert out.splitlines()[6].endswith("the fastest without a loss on this machine: q8_0")
        assert rows[7] == ["smollm2-135m:q8_0", str(pulled / "q8_0" / "smollm2-135m.q8_0.gguf")]
    assert measured == [pulled / "tiny.gguf"]  # once; then the figures are known


@pytest.mark.slow
def test_quantize_shows_before_and_after(run, pulled, tmp_path):
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog.", encoding="utf-8")
    assert run("pull", "smollm2-135m")[0] == 0
    code, out, err = run("quantize", "smollm2-135m", "out.gguf", "--type", "q8_0", "--text", "text.txt")
    assert (code, err) == (0, "")
    rows = [line.rsplit(maxsplit=2) for line in out.splitlines()[:6]]
    assert [row[0].strip() for row in rows[1:]] == [
        "size, MB",
        "layers",
        "prefill, tokens/s",
        "decode, tokens/s",
        "perplexity",
    ]
    assert rows[2][1:] == ["1", "1"]
    assert "out.gguf: q8_0, " in out
    assert "perplexity on text.txt; lower is better" in out
    code, _, err = run("quantize", "smollm2-135m", "out.gguf")
    assert (code, "exists already" in err) == (1, True)
    code, out, _ = run("quantize", "out.gguf", "f32.gguf", "--type", "f32", "--json", "--text", "text.txt")
    shown = answer_of(out)
    assert (code, shown["report"]["type"], shown["text"]) == (0, "f32", "text.txt")
    assert shown["before"]["size_bytes"] == shown["report"]["source_bytes"]
    assert shown["before"]["perplexity"] == pytest.approx(shown["after"]["perplexity"], rel=0.1)


def test_quantize_names_what_is_wrong(run, pulled, tmp_path):
    assert run("pull", "smollm2-135m")[0] == 0
    for layers in ("1-", "7-3", "x", "1,,2", "9999"):
        code, _, err = run("quantize", "smollm2-135m", "out.gguf", "--prune-layers", layers)
        assert (code, "numbers and ranges, such as 3,5-7" in err) == (2, True)
    code, _, err = run("quantize", "smollm2-135m", "out.gguf", "--prune-layers", "0")
    assert (code, "some, not all, of the layers 0 to 0" in err) == (2, True)
    code, _, err = run("quantize", "smollm2-135m", "out.gguf", "--text", "nowhere.txt")
    assert (code, "cannot read 'nowhere.txt'" in err) == (1, True)
    assert not (tmp_path / "out.gguf").exists()
    assert quantizing._layers("3, 5-7") == [3, 5, 6, 7]


def test_the_text_for_perplexity_is_named(monkeypatch):
    text, origin = quantizing._text_to_measure(None)
    assert len(text) == 8_000
    assert f"8,000 characters of the help topics of Python {sys.version_info.major}." in origin


def test_doctor_prints_sections(run):
    code, out, _ = run("doctor")
    assert code == 0
    assert [line for line in out.splitlines() if line and not line.startswith(" ")][:5] == [
        "Versions",
        "Extras",
        "llama.cpp",
        "Threads",
        "Models",
    ]
    assert set(answer_of(run("doctor", "--json")[1])) == {"sections", "advice"}


def test_doctor_and_repair_of_a_folder(filled, tmp_path):
    assert filled("doctor", ".leanrag")[:2] == (output.OK, "2 documents are sound\n")
    with contextlib.closing(sqlite3.connect(tmp_path / ".leanrag" / "leanrag.db")) as connection, connection:
        connection.execute("UPDATE vectors SET data = zeroblob(8) WHERE chunk = 1")
    name = (tmp_path / "docs" / "nile.txt").as_posix()
    code, out, _ = filled("doctor", ".leanrag")
    problem = "the vector of chunk 0 has not 256 numbers with unit norm"
    assert (code, out.splitlines()[0]) == (output.FAILED, f"{name}: {problem}")
    assert answer_of(filled("doctor", ".leanrag", "--json")[1])[0]["problem"] == problem
    assert filled("repair", ".leanrag")[:2] == (output.OK, "1 problems; 1 documents restored, 0 removed\n")
    assert filled("doctor", ".leanrag")[:2] == (output.OK, "2 documents are sound\n")
    assert filled("doctor", "nowhere")[0] == output.FAILED


# What goes wrong


def test_a_folder_that_is_not_there_is_not_made_by_a_question(run, tmp_path):
    code, out, err = run("ask", "Who?", "--folder", "nowhere")
    assert (code, out) == (1, "")
    assert err.startswith("leanrag: ")
    assert "nowhere" in err
    assert not (tmp_path / "nowhere").exists()


def test_errors_are_json_too(run):
    code, out, err = run("ask", "Who?", "--folder", "nowhere", "--json")
    error = answer_of(out)
    assert code == 1
    assert error["error"] == "StorageError"
    assert error["message"] in err


def test_wrong_settings_are_usage_errors(filled):
    code, _, err = filled("ask", "Who?", "--max-tokens", "0")
    assert code == 2
    assert "`max_tokens` must be at least 1, got 0" in err
    assert filled("ask", " ")[0] == 2
    with pytest.raises(SystemExit) as caught:
        filled("ask")
    assert caught.value.code == 2


def test_what_a_terminal_would_obey_is_shown_as_an_escape(run, tmp_path):
    (tmp_path / "bad\u202e.md").write_text(
        "Ada Park \x1b]0;owned\x07signs \x9b2J off \u202ereleases.\n", encoding="utf-8"
    )
    assert run("add", "bad\u202e.md")[0] == output.OK
    for command in ("search", "ask", "explain"):
        _, out, err = run(command, "Who signs off releases?")
        assert "signs" in out
        assert not set(out + err) & set("\x1b\x07\x9b\u202e\r")
        _, out, _ = run(command, "Who signs off releases?", "--json")
        assert out.isascii()
        assert "\x1b]0;owned" in json.dumps(json.loads(out)).replace("\\u001b", "\x1b")


def test_an_interrupt_has_its_code(filled, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(leanrag.Rag, "ask", interrupted)
    code, out, err = filled("ask", "Who?")
    assert (code, out, err) == (130, "", "leanrag: interrupted\n")


def test_the_folder_may_come_from_the_environment(run, tmp_path, monkeypatch):
    (tmp_path / "a.md").write_text(TEXT, encoding="utf-8")
    monkeypatch.setenv("LEANRAG_FOLDER", str(tmp_path / "elsewhere"))
    assert run("add", "a.md")[0] == 0
    assert (tmp_path / "elsewhere").is_dir()
    assert not (tmp_path / ".leanrag").exists()


# As a process


def command(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "leanrag", *arguments], capture_output=True, check=False, **options)


def test_the_module_is_the_command():
    shown = command("--version", text=True)
    assert (shown.returncode, shown.stdout) == (0, f"leanrag {leanrag.__version__}\n")
    shown = command("--help", text=True)
    for name in (
        "add",
        "remove",
        "search",
        "ask",
        "calibrate",
        "explain",
        "pull",
        "quantize",
        "list",
        "doctor",
        "stats",
    ):
        assert re.search(rf"\n    {name}\s", shown.stdout)
    assert "130  interrupted" in shown.stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    pytest.importorskip("fcntl")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        process = subprocess.run(
            [sys.executable, "-m", "leanrag", "list"], stdout=pipe, stderr=subprocess.PIPE, check=False
        )
    assert (process.returncode, process.stderr) == (0, b"")


@pytest.mark.slow
def test_a_terminal_without_the_characters_gets_what_it_can_show(filled, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    program = (
        "import sys, leanrag; from leanrag.testing import HashEmbedder; from leanrag.cli import main as cli; o = leanrag.open;"
        "leanrag.open = lambda path, **s: o(path, **(s | {'embedder': HashEmbedder(dim=256)}));"
        "sys.exit(cli.main(['search', 'Nile', '-k', '1']))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(Path(leanrag.__file__).parent.parent)},
    )
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"The Nile is long ? tr?s long." in shown.stdout


@pytest.mark.slow
def test_calibrate_wants_a_file_for_a_last_model_that_learns_to_abstain(filled, tmp_path):
    lines = [{"question": f"Who signs off release {n}?", "answers": ["Ada Park"] if n % 4 else []} for n in range(120)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    code, out, err = filled("calibrate", "rows.jsonl", *TWO, "--out", "a.json")
    assert (code, out) == (2, "")
    assert "Pass `--out` for each model" in err
    assert filled("calibrate", "rows.jsonl", *TWO, "--out", "a.json", "--out", "b.json")[0] == 0


# Costs


def test_questions_and_documents_are_in_the_ledger_of_the_folder(filled):
    filled("ask", "Who signs off releases?")
    code, shown, _ = filled("costs")
    assert code == output.OK
    assert re.search(r"^fake +1 ", shown, re.MULTILINE)
    rows = answer_of(filled("costs", "--by", "stage", "--json")[1])["parts"]
    assert {row["name"] for row in rows} >= {"ingest", "retrieve", "pack", "decode", "verify"}
    head, *lines = filled("costs", "--csv")[1].splitlines()
    assert head.startswith("time,request,stage,model,")
    assert len(lines) == sum(1 for line in lines if line.count(",") == head.count(","))


def test_the_ledger_can_be_switched_off(run, monkeypatch, tmp_path):
    monkeypatch.setenv("LEANRAG_LEDGER", "off")
    (tmp_path / "a.md").write_text(TEXT, encoding="utf-8")
    assert run("add", "a.md")[0] == run("ask", "Who signs off releases?")[0] == output.OK
    code, _, error = run("costs")
    assert code == output.FAILED
    assert "has no ledger" in error


def test_no_ledger_is_made_where_there_is_no_database(run, tmp_path):
    (tmp_path / "notes").mkdir()
    assert run("ask", "--folder", "notes", "Who?")[0] != output.OK
    assert list((tmp_path / "notes").iterdir()) == []


def test_a_damaged_ledger_does_not_keep_an_answer_back(filled, tmp_path):
    (tmp_path / ".leanrag" / "costs.db").write_bytes(b"not a database" * 100)
    assert filled("ask", "Who signs off releases?")[0] == output.OK
    code, _, error = filled("costs")
    assert code == output.FAILED
    assert "is damaged" in error


# Measure


@pytest.mark.slow
def test_bench_writes_a_table_and_a_picture(run, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "releases.md").write_text(TEXT, encoding="utf-8")
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "Who signs off releases?", "answers": ["Ada Park"]}\n', encoding="utf-8")
    code, out, _ = run("bench", "docs", "--questions", "questions.jsonl", "--out", "measured")
    assert code == output.OK
    assert "all passages" in out
    assert (tmp_path / "measured" / "bench.txt").read_text(encoding="utf-8").startswith("1 questions\n")
    assert (tmp_path / "measured" / "bench.svg").read_text(encoding="utf-8").startswith("<svg ")
    code, out, _ = run("bench", "--questions", "questions.jsonl", "--out", "measured", "--json")
    names = [summary["name"] for summary in answer_of(out)]
    assert names == ["all passages", "packed", "asked again"]


def test_bench_names_the_line_of_a_bad_question(run, tmp_path):
    (tmp_path / "questions.jsonl").write_text('{"answers": []}\n', encoding="utf-8")
    code, _, err = run("bench", "--questions", "questions.jsonl")
    assert code == output.FAILED
    assert "line 1 of" in err


@pytest.mark.slow
def test_tune_writes_settings_and_a_picture(filled, tmp_path):
    lines = [json.dumps({"question": f"Who signs off release {n}?", "answers": ["Ada Park"]}) for n in range(90)]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    code, out, _ = filled("tune", "questions.jsonl", "--model", "fake", "-k", "2", "-k", "3", "--cost", "prompt tokens")
    assert code == output.OK
    assert out.startswith("2 points from 2 runs")
    record = json.loads((tmp_path / "tune" / "settings.json").read_text(encoding="utf-8"))
    assert (record["format"], record["models"]) == ("leanrag settings", ["fake"])
    assert (tmp_path / "tune" / "tune.svg").read_text(encoding="utf-8").startswith("<svg ")
    code, _, err = filled("tune", "questions.jsonl", "--model", "fake", "--margin", "0.01")
    assert code == output.USAGE
    assert "at least 460 are needed" in err
