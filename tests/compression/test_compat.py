"""`PromptCompressor` beside that of llmlingua: the same signatures, the same words, and none of its faults."""

import inspect
import json
import re
from collections import Counter

import numpy as np
import pytest

from leanrag.compression.compat import PromptCompressor
from leanrag.compression.compat.fields import read_fields
from leanrag.compression.compat.ranking import Ranker
from leanrag.compression.compat.tags import Segment, parse_tags
from leanrag.errors import CompressionError, ConfigurationError
from leanrag.evidence.protection import Protection
from leanrag.text import split_sentences
from tests.compression.conftest import DOCUMENTS, QUESTION, SENTENCES

llmlingua = pytest.importorskip("llmlingua")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow  # torch computes

LONG = [" ".join(SENTENCES), " ".join(SENTENCES[::-1]), " ".join(SENTENCES[3:] + SENTENCES[:3])]
TEXT = "\n\n".join(LONG)


def words(text):
    return len(text.split())


class Counts:
    def encode(self, text):
        return range(max(1, words(text)))


def overlap(one, other):
    one, other = Counter(one.split()), Counter(other.split())
    return 2 * (one & other).total() / max(1, one.total() + other.total())


@pytest.fixture(scope="session")
def plain(causal_folder):
    return PromptCompressor(causal_folder, "cpu", protection=None, count_tokens=words)


@pytest.fixture(scope="session")
def protecting(causal_folder):
    return PromptCompressor(causal_folder, "cpu", count_tokens=words)


@pytest.fixture(scope="session")
def plain2(bert_folder):
    return PromptCompressor(bert_folder, "cpu", use_llmlingua2=True, protection=None, count_tokens=words)


@pytest.fixture
def theirs(plain, monkeypatch):
    """The package as it is, on the same weights, with states in its format and our sentences for those of nltk."""
    import nltk

    monkeypatch.setattr(nltk, "sent_tokenize", lambda text: [text[a:b] for a, b in split_sentences(text)])
    package = llmlingua.PromptCompressor.__new__(llmlingua.PromptCompressor)
    package.tokenizer, package.model, package.device = plain._tokenizer, plain._engine.model, "cpu"
    package.max_position_embeddings, package.context_idxs, package.oai_tokenizer = 1024, [], Counts()
    package.use_llmlingua2, package.cache_bos_num, package.prefix_bos_num = False, 10, 100
    return package


@pytest.fixture
def theirs2(plain2):
    tokenizer = plain2._tokenizer
    package = llmlingua.PromptCompressor.__new__(llmlingua.PromptCompressor)
    package.tokenizer, package.model, package.device = tokenizer, plain2._classifier.model, "cpu"
    package.use_llmlingua2, package.model_name, package.oai_tokenizer = True, "bert-base-multilingual-cased", Counts()
    package.max_batch_size, package.max_force_token, package.max_seq_len = 16, 100, 512
    package.added_tokens = [f"[NEW{i}]" for i in range(100)]
    package.special_tokens = {tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token}
    return package


LONGLLMLINGUA = {
    "question": QUESTION, "condition_in_question": "after_condition", "reorder_context": "sort",
    "dynamic_context_compression_ratio": 0.3, "condition_compare": True, "rank_method": "longllmlingua",
}  # fmt: skip
CASES = [
    {},
    {"rate": 0.8},
    {"target_token": 150},
    {"iterative_size": 100},
    {"force_context_ids": [2], "target_token": 60},
    {"use_sentence_level_filter": True},
    {"use_sentence_level_filter": True, "token_budget_ratio": 1.0},
    {"use_context_level_filter": False},
    {"use_token_level_filter": False, "target_token": 60, "context_budget": "+0"},
    {"context_budget": "*1.5", "target_token": 100},
    {"reorder_context": "two_stage", **{k: v for k, v in LONGLLMLINGUA.items() if k != "reorder_context"}},
    LONGLLMLINGUA,
    {**LONGLLMLINGUA, "condition_in_question": "before"},
    {"instruction": "Be brief.", "question": QUESTION},
    {**LONGLLMLINGUA, "instruction": "Be brief.", "add_instruction": True},
    {"question": QUESTION, "concate_question": False},
    {"rank_method": "gzip", "question": QUESTION},
]


@pytest.mark.parametrize("options", CASES, ids=range(len(CASES)))
def test_the_words_are_those_of_the_package(plain, theirs, options):
    ours, other = plain.compress_prompt(list(LONG), **options), theirs.compress_prompt(list(LONG), **options)
    assert overlap(ours["compressed_prompt"], other["compressed_prompt"]) >= 0.95
    assert set(ours) == set(other)
    assert (ours["origin_tokens"], ours["saving"]) == (other["origin_tokens"], other["saving"])


def test_one_document_gives_the_very_text_of_the_package(plain, theirs):
    for rate in (0.3, 0.6):
        ours, other = plain.compress_prompt([TEXT], rate=rate), theirs.compress_prompt([TEXT], rate=rate)
        assert ours == other


TAGGED = [
    f"<llmlingua, compress=False>{LONG[0]}</llmlingua><llmlingua, rate=0.3>{LONG[1]}</llmlingua>",
    f"<llmlingua, rate=0.9, compress=True>{LONG[2]}</llmlingua>",
]


@pytest.mark.parametrize("options", [{}, {"use_sentence_level_filter": True}])
def test_tags_are_read_as_the_package_reads_them(plain, theirs, options):
    ours = plain.structured_compress_prompt(TAGGED, **options)
    other = theirs.structured_compress_prompt(TAGGED, **options)
    assert overlap(ours["compressed_prompt"], other["compressed_prompt"]) >= 0.95
    assert LONG[0] in ours["compressed_prompt"]


CASES2 = [
    {},
    {"rate": 0.3},
    {"target_token": 20},
    {"token_to_word": "first"},
    {"force_tokens": [".", ","]},
    {"force_tokens": ["."], "drop_consecutive": True, "rate": 0.3},
    {"force_reserve_digit": True, "rate": 0.4},
    {"use_context_level_filter": True, "target_context": 1},
    {"use_context_level_filter": True, "context_level_rate": 0.7},
    {"use_context_level_filter": True, "context_level_target_token": 60},
    {"use_context_level_filter": True, "force_context_ids": [2]},
    {"return_word_label": True},
    {"return_word_label": True, "word_sep": "|", "label_sep": "="},
    {"chunk_end_tokens": [","]},
]


@pytest.mark.parametrize("options", CASES2, ids=range(len(CASES2)))
def test_llmlingua2_keeps_the_words_of_the_package(plain2, theirs2, options):
    class Named:
        def __getattr__(self, name):
            return getattr(plain2._tokenizer, name)

    options = {"use_context_level_filter": False, **options}
    ours = plain2.compress_prompt_llmlingua2(list(DOCUMENTS), **options)
    other = theirs2.compress_prompt_llmlingua2(list(DOCUMENTS), **options)

    def squeezed(text):
        return re.sub(r"\s", "", text)

    assert squeezed(ours["compressed_prompt"]) == squeezed(other["compressed_prompt"])
    assert [squeezed(text) for text in ours["compressed_prompt_list"]] == [
        squeezed(text) for text in other["compressed_prompt_list"]
    ]
    assert set(ours) == set(other)
    if "return_word_label" in options:
        label = "fn_labeled_original_prompt"
        assert Counter(ours[label].split(options.get("word_sep"))) == Counter(
            other[label].split(options.get("word_sep"))
        )


@pytest.mark.parametrize(
    "name",
    ["__init__", "compress_prompt", "compress_prompt_llmlingua2", "structured_compress_prompt", "compress_json", "recover",
     "segment_structured_context", "get_token_length"],
)  # fmt: skip
def test_signatures_are_those_of_the_package(name):
    ours = inspect.signature(getattr(PromptCompressor, name)).parameters
    other = inspect.signature(getattr(llmlingua.PromptCompressor, name)).parameters
    assert list(ours)[: len(other)] == list(other)
    empty = (None, {}, [], ())
    for parameter in other.values():
        default = ours[parameter.name].default
        if parameter.default in empty or default in empty:
            assert default in empty
        else:
            assert default == parameter.default or list(default) == parameter.default
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in list(ours.values())[len(other) :])


# What the package gets wrong


def test_a_prompt_shorter_than_a_stretch_is_compressed(plain):
    report = plain.compress_prompt([SENTENCES[0]], rate=0.5)
    assert 0 < report["compressed_tokens"] < report["origin_tokens"]


def test_a_prompt_longer_than_the_window_is_compressed_all_over(causal_folder):
    compressor = PromptCompressor(causal_folder, "cpu", protection=None, count_tokens=words, window_tokens=300)
    text = " ".join(SENTENCES * 3)
    report = compressor.compress_prompt([text], rate=0.5, iterative_size=100)
    assert 0.3 < len(report["compressed_prompt"]) / len(text) < 0.7
    with pytest.raises(CompressionError, match=r"leave .* tokens of the scorer's window"):
        compressor.compress_prompt([text], question=text[:900], condition_in_question="none_condition")


def test_force_context_number_keeps_so_many_documents(plain):
    for number in (1, 2, 3):
        report = plain.compress_prompt(
            list(LONG), target_token=1, force_context_number=number, use_token_level_filter=False
        )
        assert sum(text in report["compressed_prompt"] for text in LONG) == number


def test_the_lists_of_the_caller_do_not_change(plain):
    documents, ids = list(LONG), [1]
    plain.compress_prompt(documents, force_context_ids=ids)
    assert (documents, ids) == (LONG, [1])


@pytest.mark.parametrize("method", ["longllmlingua", "bm25", "llmlingua"])
def test_first_and_last_sentences_stay(plain, method):
    report = plain.compress_prompt(
        [LONG[0]], question=QUESTION, rank_method=method, use_sentence_level_filter=True, keep_first_sentence=2,
        keep_last_sentence=1, use_token_level_filter=False, target_token=150, token_budget_ratio=1.0, concate_question=False,
    )  # fmt: skip
    kept = report["compressed_prompt"]
    assert SENTENCES[0] in kept
    assert SENTENCES[1] in kept
    assert SENTENCES[-1] in kept
    assert len(kept) < len(LONG[0])


def test_keep_sentence_number_keeps_a_sentence_of_each_document(plain):
    report = plain.compress_prompt(
        list(LONG), use_context_level_filter=False, use_sentence_level_filter=True, keep_sentence_number=1,
        use_token_level_filter=False, target_token=1,
    )  # fmt: skip
    parts = report["compressed_prompt"].split("\n\n")
    assert len(parts) == 3
    assert all(any(sentence in part for sentence in SENTENCES) for part in parts)


def test_keep_split_keeps_blank_lines(plain):
    text = "\n\n".join(SENTENCES)
    report = plain.compress_prompt([text], rate=0.3, keep_split=True)
    assert report["compressed_prompt"].count("\n\n") == len(SENTENCES) - 1
    assert plain.compress_prompt([text], rate=0.3)["compressed_prompt"].count("\n\n") < len(SENTENCES) - 1


def test_force_tokens_and_digits_work_for_language_models_too(plain):
    report = plain.compress_prompt([LONG[0]], rate=0.2, force_tokens=["tower", "pigeons"], force_reserve_digit=True)
    for word in ("tower", "pigeons", "1889", "330", "8:30", "111"):
        assert word in report["compressed_prompt"]
    labelled = plain.compress_prompt([LONG[0]], rate=0.2, return_word_label=True, word_sep="|", label_sep="=")
    pairs = [pair.rpartition("=") for pair in labelled["fn_labeled_original_prompt"].split("|")]
    assert [word for word, _, _ in pairs] == LONG[0].split()
    assert {label for _, _, label in pairs} == {"0", "1"}


def test_what_is_protected_stays_with_its_sentence_at_the_same_size(plain, protecting):
    for rate in (0.3, 0.6):
        bare, kept = (c.compress_prompt([LONG[0]], rate=rate)["compressed_prompt"] for c in (plain, protecting))
        for sentence in SENTENCES:
            inside = [sentence[a:b] for a, b in Protection().spans(sentence)]
            assert all(span in kept for span in inside)
        assert len(kept) < 1.25 * len(bare)


def test_special_names_in_texts_are_text(plain):
    text = f"<s> {LONG[0]} </s> <|endoftext|> [CLS]"
    assert plain.compress_prompt([text], rate=1.0)["compressed_prompt"] == text


# Tags


def test_tags_lose_no_text():
    text = "a < b <llmlingua, rate=0.3>if a < b: x > y</llmlingua> and <llmlingua, compress=False, rate=.2>c<d</llmlingua>\n"
    assert parse_tags(text, 0.5) == [
        Segment("a < b ", 0.5), Segment("if a < b: x > y", 0.3), Segment(" and ", 0.5), Segment("c<d", 0.2, compress=False),
        Segment("\n", 0.5),
    ]  # fmt: skip
    assert parse_tags("", 0.5) == []
    assert parse_tags("<llmlingua></llmlingua>", 0.5) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<llmlingua, rate=0.3>open", "at character 0 is not closed"),
        ("closed</llmlingua>", "at character 6 closes nothing"),
        ("<llmlingua>a<llmlingua>b</llmlingua></llmlingua>", "stands inside the tag at character 0"),
        ("<llmlingua, rate=1.5>a</llmlingua>", r"must be in \[0, 1\], got '1.5'"),
        ("<llmlingua, rate=-1>a</llmlingua>", "got '-1'"),
        ("<llmlingua, rate=much>a</llmlingua>", "got 'much'"),
        ("<llmlingua, compress=no>a</llmlingua>", "must be True or False, got 'no'"),
        ("<llmlingua, speed=3>a</llmlingua>", "has the setting 'speed=3'"),
    ],
)
def test_tags_that_cannot_be_read(plain, text, message):
    with pytest.raises(ConfigurationError, match=message):
        plain.structured_compress_prompt([text])


def test_parts_that_are_not_compressed_are_whole_with_both_methods(plain, plain2):
    code = "if a < b and c > d:\n    return 'x, , y'"
    for compressor in (plain, plain2):
        report = compressor.structured_compress_prompt(
            [f"{LONG[0]}<llmlingua, compress=False>{code}</llmlingua>{LONG[1]}"], rate=0.3
        )
        assert code in report["compressed_prompt"]
        assert len(report["compressed_prompt"]) < 0.7 * len(LONG[0] + LONG[1])


def test_segments_that_do_not_describe_the_documents(plain):
    with pytest.raises(ConfigurationError, match=r"context_segs\[0\]` must be the parts of document 0"):
        plain.compress_prompt([LONG[0]], context_segs=[["other"]])
    with pytest.raises(ConfigurationError, match="a list for each of the 1 documents, got 2, 2 and 2"):
        plain.compress_prompt([LONG[0]], context_segs=[["a"], ["b"]])


# JSON

DATA = {
    "id": 987987, "name": "Smith, John", "is_open": True,
    "note": " ".join(SENTENCES[:4]), "tags": ["a, b", " ".join(SENTENCES[4:7])],
    "deep": {"text": "He said \"no, no\" \\ and left. " + SENTENCES[8], "n": 3.5, "none": None},
}  # fmt: skip
CONFIG = {
    "id": {"rate": 1, "compress": False, "value_type": "int", "pair_remove": False},
    "name": {"rate": 1, "compress": False, "value_type": "str", "pair_remove": False},
    "is_open": {"rate": 0.5, "compress": True, "value_type": "bool", "pair_remove": False},
    "note": {"rate": 0.5, "compress": True, "value_type": "str", "pair_remove": True},
    "tags": {"rate": 0.5, "compress": True, "value_type": "list", "pair_remove": True},
    "deep": {"rate": 0.3, "compress": True, "value_type": "dict", "pair_remove": True},
}


@pytest.mark.parametrize("which", ["plain", "plain2"])
def test_json_stays_json(request, which):
    report = request.getfixturevalue(which).compress_json(DATA, CONFIG)
    result = report["compressed_prompt"]
    assert json.loads(json.dumps(result)) == result
    assert list(result) == list(DATA)
    assert [result[key] for key in ("id", "name", "is_open")] == [987987, "Smith, John", True]
    assert 0 < len(result["note"]) < len(DATA["note"])
    assert len(result["tags"]) == 2
    assert (result["deep"]["n"], result["deep"]["none"], list(result["deep"])) == (3.5, None, ["text", "n", "none"])
    assert report["compressed_tokens"] < report["origin_tokens"]


def test_fields_may_be_dropped(plain):
    report = plain.compress_json(DATA, CONFIG, use_keyvalue_level_filter=True, target_token=1, context_budget="+0")
    assert {"id", "name", "is_open"} <= set(report["compressed_prompt"]) < set(DATA)


@pytest.mark.parametrize(
    ("data", "config", "message"),
    [
        ('{"a": 1}', {}, "must be a dictionary, got"),
        ({"a": 1}, {}, r"Only one has \['a'\]"),
        ({"a": "x"}, {"a": {"rate": 2, "compress": True, "value_type": "str", "pair_remove": False}}, "got 2"),
        ({"a": "x"}, {"a": {"rate": 1, "compress": True, "value_type": "set", "pair_remove": False}}, "got 'set'"),
        ({"a": "x"}, {"a": {"rate": 1}}, "compress, value_type, pair_remove is missing"),
        ({"a": "x"}, "no-such-file.yaml", "cannot be read"),
    ],
)
def test_json_that_cannot_be_compressed(data, config, message):
    with pytest.raises(ConfigurationError, match=message):
        read_fields(data, config)


def test_the_configuration_may_be_a_file(plain, tmp_path):
    (tmp_path / "config.yaml").write_text("a: {rate: 1, compress: false, value_type: str, pair_remove: false}")
    assert plain.compress_json({"a": "Ada, Bob"}, str(tmp_path / "config.yaml"))["compressed_prompt"] == {
        "a": "Ada, Bob"
    }
    assert plain.compress_json({}, {})["compressed_prompt"] == {}


# Answers


def test_an_answer_gets_the_words_of_the_original(plain):
    original = "The tower was finished in 1889 and is 330 metres tall."
    compressed = "tower finished 1889 330 metres tall"
    assert plain.recover(original, compressed, "It was tower finished 1889 .") == "It was tower was finished in 1889 ."
    for answer in ("", " ", "two  spaces", "nothing of it\nat all"):
        assert plain.recover(original, compressed, answer) == answer


# Ranking


class Reversing:
    def rerank(self, question, hits):
        return list(hits)[::-1][:2]


class Letters:
    id, dim, max_tokens = "letters", 26, 512

    def embed_documents(self, texts):
        rows = np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], np.float32)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    embed_queries = embed_documents


def test_documents_are_ranked_by_words_an_embedder_or_a_reranker():
    texts = ["zzzz zz", "The tower is tall.", "How tall is it?"]
    ranker = Ranker(Letters(), Reversing())
    assert ranker.rank("bm25", texts, "Is the tower tall?") == [1, 2, 0]
    assert ranker.rank("gzip", texts, "The tower is tall.")[0] == 1
    assert ranker.rank("embedding", texts, "zz") == ranker.rank("bge", texts, "zz")
    assert ranker.rank("embedding", texts, "zz")[0] == 0
    assert ranker.rank("reranker", texts, "?") == ranker.rank("cohere", texts, "?") == [2, 1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.2}, r"must be in \[0, 1\], got 1.2"),
        ({"rate": "half"}, "got 'half'"),
        ({"target_token": -5}, "`target_token` must be a number of tokens"),
        ({"rank_method": "magic"}, "`rank_method` must be one of llmlingua, longllmlingua, bm25"),
        ({"rank_method": "bge", "question": "q"}, "'bge'` needs an embedder"),
        ({"rank_method": "cohere", "question": "q"}, "'cohere'` needs a reranker"),
        ({"rank_method": "longllmlingua"}, "needs a question"),
        ({"context_budget": "+100; import os"}, "such as '\\+100' or '\\*1.5'"),
        ({"reorder_context": "sorted"}, "must be one of original, two_stage, sort, got 'sorted'"),
        ({"condition_in_question": "behind"}, "must be one of none, before, after"),
        ({"force_context_ids": [7]}, "indices of the 3 documents, got 7"),
        ({"force_context_number": -1}, "`force_context_number` must be a whole number"),
        ({"iterative_size": 0}, "`iterative_size` must be a whole number, at least 1"),
    ],
)
def test_parameters_that_cannot_work(plain, options, message):
    with pytest.raises(ConfigurationError, match=message):
        plain.compress_prompt(list(LONG), **options)


def test_unknown_parameters_are_the_error_of_python(plain):
    with pytest.raises(TypeError, match="unexpected keyword argument 'speed'"):
        plain.compress_prompt(list(LONG), speed=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_config": {"trust_remote_code": True}}, "code of a model is never run"),
        ({"model_config": {"quick": 1}}, "may have trust_remote_code"),
        ({"open_api_config": {"api_key": "x"}}, r"got the keys \['api_key'\]"),
        ({"llmlingua2_config": {"x": 1}}, "may have max_batch_size"),
        ({"window_tokens": 3}, "must be at least 128, got 3"),
    ],
)
def test_arguments_of_the_constructor(causal_folder, options, message):
    with pytest.raises(ConfigurationError, match=message):
        PromptCompressor(causal_folder, "cpu", **options)
    with pytest.raises(ConfigurationError, match="must be a local folder"):
        PromptCompressor("no/such-model", "cpu")


def test_tiny_targets_and_empty_texts(plain, plain2, protecting):
    for compressor in (plain, plain2, protecting):
        for context in ([], [""], [" "], "word", ["word", ""], ["a\n\nb"]):
            for options in ({"target_token": 0}, {"target_token": 1}, {"rate": 0.0}, {"rate": 1.0}):
                report = compressor.compress_prompt(context, **options)
                assert report["compressed_tokens"] <= max(1, report["origin_tokens"])
    assert plain.compress_prompt("one two", rate=1.0)["compressed_prompt"] == "one two"
    assert plain2.compress_prompt("one  two", rate=1.0)["compressed_prompt"] == "one  two"


def test_integrations_call_it_as_they_call_the_package(plain):
    """The calls of LangChain's LLMLinguaCompressor and LlamaIndex's LongLLMLinguaPostprocessor."""
    refs = [f"\n\n<#ref{i}#> {text} <#ref{i}#>\n\n" for i, text in enumerate(DOCUMENTS)]
    report = plain.compress_prompt(
        context=refs, instruction="Given this documents, please answer the final question", question=QUESTION,
        target_token=120, rank_method="longllmlingua", concate_question=False, add_instruction=True,
        condition_compare=True, condition_in_question="after", context_budget="+100", reorder_context="sort",
        dynamic_context_compression_ratio=0.4,
    )  # fmt: skip
    assert report["compressed_prompt"].startswith("Given this documents")
    report = plain("".join(DOCUMENTS), instruction="", question=QUESTION, target_token=60, rank_method="longllmlingua")
    assert report["compressed_prompt"].endswith(QUESTION)
