"""LLMLingua through its package: tiny random scorers, for promises hold whatever the weights say."""

import os
import random
import socket
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from leanrag.compression.lingua import LLMLinguaCompressor, dequantize
from leanrag.errors import BudgetError, CompressionError, ConfigurationError, ModelLoadError, StorageError
from leanrag.evidence.protection import Protection
from leanrag.types import Chunk, Document, Hit
from tests.compression.conftest import DOCUMENTS, QUESTION, SENTENCES
from tests.examples import max_examples

pytest.importorskip("llmlingua")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow  # torch computes

PLAIN = Protection(kinds=())


def words(text):
    return len(text.split())


def check(compression, budget, count=words):
    assert compression.tokens_after == (count(compression.text) if compression.text else 0) <= budget
    at = 0
    for segment in compression.segments:
        chunk = compression.sources[segment.source].chunk
        span = chunk.text[segment.source_start - chunk.start : segment.source_end - chunk.start]
        assert compression.text[segment.start : segment.end] == span
        assert compression.text[at : segment.start].strip() == ""
        at = segment.end
    assert compression.text[at:] == ""


@pytest.fixture(scope="session")
def long(causal_folder):
    return LLMLinguaCompressor(causal_folder, protection=PLAIN, threads=1)


@pytest.fixture(scope="session")
def compressors(causal_folder, bert_folder, roberta_folder, long):
    return {
        "longllmlingua": long,
        "llmlingua": LLMLinguaCompressor(causal_folder, method="llmlingua", protection=PLAIN),
        "bert": LLMLinguaCompressor(bert_folder, method="llmlingua2", protection=PLAIN),
        "xlm-roberta": LLMLinguaCompressor(roberta_folder, method="llmlingua2", protection=PLAIN),
    }


METHODS = ["longllmlingua", "llmlingua", "bert", "xlm-roberta"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_result_is_near_the_budget_and_made_of_the_sources(compressors, method, rate):
    result = compressors[method].compress(DOCUMENTS, count_tokens=words, rate=rate, question=QUESTION)
    budget = int(result.tokens_before * rate)
    check(result, budget)
    assert result.tokens_after >= budget - 2


@pytest.mark.parametrize("method", METHODS)
def test_what_fits_comes_back_as_it_is(compressors, method):
    text = "  Two  spaces,\n\nand an end. \n"
    for options in ({"budget": 8}, {"rate": 1.0}):
        result = compressors[method].compress(text, count_tokens=words, **options)
        assert result.text == text
        assert [segment.reason for segment in result.segments] == ["whole"]
        assert result.dropped == ()


@pytest.mark.parametrize("method", ["llmlingua", "longllmlingua"])
@pytest.mark.parametrize("target", [40, 150, 260])
def test_tokens_are_those_that_the_package_keeps(compressors, tokenizer_of_bytes, method, target):
    """Beside the package as it is, given nothing but states in its format, and room in which its own bookkeeping holds."""
    from llmlingua import PromptCompressor

    from leanrag.compression.lingua.driver import LinguaRequest, encode

    ours = compressors[method]
    encoded = encode(tokenizer_of_bytes, DOCUMENTS)
    nothing = np.zeros(len(encoded.ids), np.bool_)
    request = LinguaRequest(encoded, nothing, [], QUESTION, method, ours._options, words)
    verdict = ours._driver.judge(request, target)

    theirs = PromptCompressor.__new__(PromptCompressor)
    theirs.tokenizer, theirs.model, theirs.device = tokenizer_of_bytes, ours._driver.model, "cpu"
    theirs.max_position_embeddings, theirs.context_idxs, theirs.oai_tokenizer = 1024, [], ours._driver.oai_tokenizer
    theirs.use_llmlingua2, theirs.cache_bos_num, theirs.prefix_bos_num = False, 10, 100
    assert ours._options.reorder == ("sort" if method == "longllmlingua" else "original")
    used = ours._driver._reading.used
    count = sum(np.diff(encoded.bounds)[used]) + 2 * (len(used) - 1)
    report = theirs.compress_prompt(
        list(DOCUMENTS),
        question=QUESTION if method == "longllmlingua" else "",
        target_token=target,
        iterative_size=int(count // max(1, round(count / 200))),
        rank_method=method,
        concate_question=False,
        reorder_context="sort" if method == "longllmlingua" else "original",
        condition_in_question="after",
        condition_compare=method == "longllmlingua",
        dynamic_context_compression_ratio=0.3 if method == "longllmlingua" else 0.0,
    )
    ids = [i for text in used for i in encoded.ids[encoded.tokens_of(text)][verdict.kept[encoded.tokens_of(text)]]]
    assert 0 < len(ids) < len(encoded.ids)
    assert tokenizer_of_bytes.decode(ids) == report["compressed_prompt"].replace("\n", "")
    assert not verdict.kept[~verdict.judged].any()
    assert (verdict.kept != (verdict.values > 0))[verdict.judged].sum() <= 2  # the end of a text that it leaves whole


@pytest.mark.parametrize("method", ["bert", "xlm-roberta"])
def test_words_are_those_that_llmlingua2_keeps(compressors, method):
    from llmlingua import PromptCompressor

    from leanrag.compression.lingua.driver import LinguaRequest, encode

    ours = compressors[method]
    driver, tokenizer = ours._driver, ours._tokenizer
    encoded = encode(tokenizer, DOCUMENTS)
    request = LinguaRequest(encoded, np.zeros(len(encoded.ids), np.bool_), [], "", "llmlingua", ours._options, words)
    verdict = driver.judge(request, len(encoded.ids) * 0.5)

    class Named:
        """The tokenizer with the names of control tokens that the package uses for every model."""

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def convert_tokens_to_ids(self, tokens):
            names = {"[CLS]": tokenizer.cls_token, "[SEP]": tokenizer.sep_token, "[PAD]": tokenizer.pad_token}
            return tokenizer.convert_tokens_to_ids([names.get(token, token) for token in tokens])

    theirs = PromptCompressor.__new__(PromptCompressor)

    class Counts:
        def encode(self, text):
            return range(max(1, words(text)))

    theirs.tokenizer, theirs.model, theirs.device = Named(), driver.classifier.model, "cpu"
    theirs.use_llmlingua2, theirs.oai_tokenizer = True, Counts()
    theirs.model_name = {"bert": "bert-base-multilingual-cased", "xlm-roberta": "xlm-roberta-large"}[method]
    theirs.max_batch_size, theirs.max_force_token, theirs.added_tokens = 16, 0, []
    theirs.max_seq_len = 512
    theirs.special_tokens = {tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token}
    report = theirs.compress_prompt(list(DOCUMENTS), rate=0.5)
    kept = []
    for text in range(3):
        place = encoded.tokens_of(text)
        pieces = np.array(encoded.tokens[place])[verdict.kept[place]]
        kept.append(tokenizer.convert_tokens_to_string([str(piece) for piece in pieces]))
    assert any(kept)
    assert "".join("".join(kept).split()) == "".join(report["compressed_prompt"].split())


@pytest.mark.parametrize("method", METHODS)
def test_the_package_keeps_protected_tokens_of_documents_that_stay(compressors, method):
    from leanrag.compression.lingua.driver import LinguaRequest, encode

    compressor = compressors[method]
    encoded = encode(compressor._tokenizer, DOCUMENTS)
    protected = np.arange(len(encoded.ids)) % 7 == 3
    request = LinguaRequest(encoded, protected, [2], QUESTION, method, compressor._options, words)
    verdict = compressor._driver.judge(request, 30)
    assert verdict.judged[encoded.tokens_of(2)].all()
    if method.endswith("lingua"):
        assert np.array_equal(verdict.kept & protected, verdict.judged & protected)
        assert 0 < verdict.kept[~protected].sum() < 90
    else:
        words_of_protected = verdict.kept[protected]
        assert words_of_protected[protected.nonzero()[0] >= encoded.bounds[2]].mean() > verdict.kept.mean()


def test_documents_alone_stay_whole_but_the_last(causal_folder):
    compressor = LLMLinguaCompressor(causal_folder, token_filter=False, protection=PLAIN, extra_tokens=0)
    result = compressor.compress(DOCUMENTS, count_tokens=words, budget=70, question=QUESTION)
    check(result, 70)
    shown = {segment.source: result.text[segment.start : segment.end] for segment in result.segments}
    whole = [source for source in shown if shown[source] == DOCUMENTS[source]]
    assert len(result.segments) == 2
    assert len(whole) == 1
    assert all(DOCUMENTS[source].startswith(text) for source, text in shown.items())


def test_a_document_longer_than_the_window_comes_in_pieces(causal_folder):
    compressor = LLMLinguaCompressor(causal_folder, window_tokens=256, piece_tokens=64, protection=PLAIN)
    text = " ".join(random.Random(0).choices(SENTENCES, k=60))
    result = compressor.compress(text, count_tokens=words, rate=0.8, question=QUESTION)
    check(result, int(words(text) * 0.8))
    assert result.tokens_after >= words(text) * 0.8 - 2
    assert result.segments[-1].source_end > len(text) * 0.9


@pytest.mark.parametrize("method", METHODS)
def test_offsets_are_those_of_the_document(compressors, method):
    document = Document("Preface. " + DOCUMENTS[0], id="d")
    hit = Hit(Chunk("d", 9, len(document.text), DOCUMENTS[0]), 1.0)
    result = compressors[method].compress([hit], count_tokens=words, rate=0.4, question=QUESTION)
    check(result, words(DOCUMENTS[0]))
    for segment in result.segments:
        assert document.text[segment.source_start : segment.source_end] == result.text[segment.start : segment.end]
        assert result.map(segment.start) == ("d", segment.source_start)
    dropped = "".join(document.text[span.source_start : span.source_end] for span in result.dropped)
    assert sorted("".join((dropped + result.text).split())) == sorted("".join(DOCUMENTS[0].split()))


@pytest.mark.parametrize("folder", ["causal_folder", "bert_folder", "roberta_folder"])
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_protected_spans_of_what_is_left_are_whole(request, folder, rate):
    method = "longllmlingua" if folder == "causal_folder" else "llmlingua2"
    compressor = LLMLinguaCompressor(request.getfixturevalue(folder), method=method)
    protection = Protection()
    result = compressor.compress(DOCUMENTS, count_tokens=words, rate=rate, question=QUESTION)
    check(result, int(result.tokens_before * rate))
    assert result.segments
    spans = [(s.source, s.source_start, s.source_end) for s in result.segments]
    for source, text in enumerate(DOCUMENTS):
        at = 0
        for sentence in SENTENCES[3 * source : 3 * source + 4]:
            end = at + len(sentence)
            is_there = any(s == source and low < end and high > at for s, low, high in spans)
            for low, high in protection.spans(text):
                if is_there and at <= low < end:
                    assert all(
                        any(s == source and a <= i < b for s, a, b in spans)
                        for i in range(low, high)
                        if not text[i].isspace()
                    )
            at = end + 1


@pytest.mark.parametrize("method", METHODS)
def test_what_is_asked_for_stays_at_any_size(compressors, method):
    compressor = compressors[method]
    needle = (DOCUMENTS[1].index("booksellers"), DOCUMENTS[1].index("booksellers") + 5)
    keep = [[], [needle], []]
    for budget in (1, 3, 20):
        result = compressor.compress(DOCUMENTS, count_tokens=words, budget=budget, question=QUESTION, keep=keep)
        check(result, budget)
        assert any(
            s.source == 1 and s.source_start <= needle[0] and needle[1] <= s.source_end and s.reason == "kept"
            for s in result.segments
        )
    with pytest.raises(BudgetError) as caught:
        compressor.compress(DOCUMENTS, count_tokens=words, budget=0, keep=keep)
    assert (caught.value.needed, caught.value.available) == (1, 0)


def test_the_very_span_stays_when_its_word_does_not_fit(long):
    result = long.compress("abcdefghij klm", count_tokens=len, budget=3, keep=[(2, 5)])
    assert result.text == "cde"


def test_a_span_inside_something_protected_that_does_not_fit_is_an_error(causal_folder):
    compressor = LLMLinguaCompressor(causal_folder, threads=1)
    text = "see /usr/lib/x.so there"
    with pytest.raises(BudgetError) as caught:
        compressor.compress(text, count_tokens=len, budget=5, keep=[(5, 8)])
    assert (caught.value.needed, caught.value.available) == (13, 5)
    assert compressor.compress(text, count_tokens=len, budget=13, keep=[(5, 8)]).text == "/usr/lib/x.so"


def test_patterns_stay(causal_folder):
    compressor = LLMLinguaCompressor(causal_folder, protection=Protection(kinds=(), patterns=[r"fish \w+", "clocks"]))
    result = compressor.compress(DOCUMENTS, count_tokens=words, budget=4, question=QUESTION)
    check(result, 4)
    assert "fish pies" in result.text
    assert "clocks" in result.text


HOSTILE = [
    "<llmlingua, rate=0.1>a < b</llmlingua> and a<b or c>d </llmlingua>",
    "<s> </s> [CLS] [SEP] [UNK] <unk> ▁ ##x <|endoftext|> \x1e 1\x1f1 \x00",
    "東京は日本の首都です。人口は約千四百万人で、世界最大の都市圏を成している。",
    "👩‍👩‍👧 🇫🇷 emoji 😀😀😀 here é́ हिन्दी ไทย العربية",
    "word",
    "\ud800 lone \udfff surrogates",
    "x" * 3000,
    "a\n\n\n\tb \u3000 c\r\nd",
    "Smith, John, $60,000.50 , , ,, and so on ... !?",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_strange_text_keeps_the_promises(compressors, method, text):
    def count(text):
        return len(text.encode("utf-8", "surrogatepass"))

    for sources in ([text], [text, DOCUMENTS[0]]):
        for rate in (0.05, 0.6):
            result = compressors[method].compress(sources, count_tokens=count, rate=rate, question=text[:80])
            check(result, int(result.tokens_before * rate), count)


pieces = st.one_of(
    st.sampled_from([*SENTENCES, *HOSTILE, "", " ", "\n\n"]),
    st.text(max_size=40),
)


@pytest.mark.parametrize("method", METHODS)
@max_examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_promises_hold_for_any_text(compressors, method, data):
    sources = data.draw(st.lists(st.lists(pieces, max_size=4).map(" ".join), min_size=1, max_size=4))
    question = data.draw(st.sampled_from(["", QUESTION, "?"]))
    budget = data.draw(st.integers(0, 60))
    keep = [
        [tuple(sorted(pair))]
        if text and (pair := data.draw(st.tuples(*[st.integers(0, len(text))] * 2))) and pair[0] != pair[1]
        else []
        for text in sources
    ]
    try:
        result = compressors[method].compress(sources, count_tokens=words, budget=budget, question=question, keep=keep)
    except BudgetError as error:
        assert error.needed > error.available == budget
        return
    check(result, budget)
    there = [(s.source, s.source_start, s.source_end) for s in result.segments]
    for source, spans in enumerate(keep):
        for start, end in spans:
            assert all(
                any(s == source and low <= i < high for s, low, high in there)
                for i in range(start, end)
                if not sources[source][i].isspace()
            )


def test_nothing_outside_changes_and_nothing_is_fetched(
    causal_folder, bert_folder, roberta_folder, monkeypatch, tmp_path
):
    import transformers

    def refuse(*_):
        raise AssertionError("network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))  # no encoding here
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    def outside():
        return (
            random.getstate(), repr(np.random.get_state()),  # noqa: NPY002
            torch.get_rng_state().tolist(), dict(os.environ),
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.get_num_threads(),
            torch.is_grad_enabled(), torch.get_default_dtype(), transformers.utils.logging.get_verbosity(),
            transformers.utils.logging.is_progress_bar_enabled(),
        )  # fmt: skip

    random.seed(7)
    np.random.seed(7)  # noqa: NPY002 - the state that the package would change
    torch.manual_seed(7)
    before = outside()
    for folder, method in [
        (causal_folder, "longllmlingua"), (causal_folder, "llmlingua"), (bert_folder, "llmlingua2"), (roberta_folder, "llmlingua2"),
    ]:  # fmt: skip
        compressor = LLMLinguaCompressor(folder, method=method, threads=1)
        assert compressor.name == method
        compressor.compress(DOCUMENTS, count_tokens=words, rate=0.5, question=QUESTION)
        assert outside() == before
    assert list(tmp_path.iterdir()) == []


def test_many_threads_get_what_one_gets(compressors):
    tasks = [(method, rate) for method in METHODS for rate in (0.3, 0.6)]

    def run(task):
        return compressors[task[0]].compress(DOCUMENTS, count_tokens=words, rate=task[1], question=QUESTION).text

    alone = {task: run(task) for task in tasks}
    found = {}
    threads = [threading.Thread(target=lambda t=task: found.setdefault(t, run(t))) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_nothing_piles_up(long, compressors):
    long.compress(DOCUMENTS, count_tokens=words, rate=0.5, question=QUESTION)
    assert (long._driver.context_idxs, long._driver._ranks, long._driver._first_passes) == ([], {}, {})
    bert = compressors["bert"]
    bert.compress(DOCUMENTS, count_tokens=words, rate=0.5)
    assert bert._driver._seen == {}


def test_the_question_matters_to_longllmlingua_alone(compressors):
    def run(method, question):
        return compressors[method].compress(DOCUMENTS, count_tokens=words, rate=0.4, question=question).text

    assert run("longllmlingua", QUESTION) != run("longllmlingua", "Where is the baker?")
    assert run("llmlingua", QUESTION) == run("llmlingua", "Where is the baker?")


def test_a_question_as_long_as_the_window_is_an_error(long):
    with pytest.raises(CompressionError, match="Shorten the question"):
        long.compress(DOCUMENTS, count_tokens=words, rate=0.5, question="why " * 2000)


def test_errors_of_the_package_and_the_reader(causal_folder, monkeypatch):
    compressor = LLMLinguaCompressor(causal_folder, protection=PLAIN)

    def fail(*_):
        raise AssertionError("tokens do not match")

    monkeypatch.setattr(compressor._driver, "compress_prompt", lambda *_, **__: fail())
    with pytest.raises(CompressionError, match="AssertionError: tokens do not match") as caught:
        compressor.compress(DOCUMENTS, count_tokens=words, rate=0.5, question=QUESTION)
    assert isinstance(caught.value.__cause__, AssertionError)

    def count(text):
        raise KeyError("the reader's own")

    with pytest.raises(KeyError, match="the reader's own"):
        compressor.compress(DOCUMENTS, count_tokens=count, rate=0.5)


def test_weights_that_are_not_numbers(causal_folder):
    for method in ("longllmlingua", "llmlingua"):
        compressor = LLMLinguaCompressor(causal_folder, method=method)
        with torch.no_grad():
            compressor._driver.model.model.lm_head.weight.fill_(float("nan"))
        for sources in (DOCUMENTS, DOCUMENTS[:1]):
            with pytest.raises(CompressionError, match="damaged"):
                compressor.compress(sources, count_tokens=words, rate=0.5, question=QUESTION)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lingua"}, "`method` must be one of longllmlingua"),
        ({"condition_in_question": "behind"}, "`condition_in_question` must be"),
        ({"reorder": "sorted"}, "`reorder` must be"),
        ({"dynamic_ratio": 1.5}, r"must be in \[0, 1\], got 1.5"),
        ({"extra_tokens": -1}, "`extra_tokens` must be at least 0, got -1"),
        ({"max_calls": 0}, "`max_calls` must be at least 1"),
        ({"threads": 0}, "`threads` must be at least 1"),
        ({"method": "llmlingua", "contrastive": True}, "need the method 'longllmlingua'"),
        ({"document_filter": False, "token_filter": False}, "cannot both be False"),
    ],
)
def test_arguments_are_checked_before_anything_is_read(tmp_path, options, message):
    with pytest.raises(ConfigurationError, match=message):
        LLMLinguaCompressor(tmp_path / "nothing", **options)


def test_a_gguf_file_is_told_of_dequantize(tiny_gguf, tmp_path):
    with pytest.raises(ConfigurationError, match="dequantize"):
        LLMLinguaCompressor(tiny_gguf)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="must be a folder"):
        LLMLinguaCompressor(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="Nothing is downloaded"):
        LLMLinguaCompressor("gpt2-that-is-not-here")


def test_a_folder_of_another_kind(causal_folder, bert_folder, tmp_path):
    with pytest.raises(ConfigurationError, match="needs a token classifier"):
        LLMLinguaCompressor(causal_folder, method="llmlingua2")
    with pytest.raises(ConfigurationError, match="method='llmlingua2'"):
        LLMLinguaCompressor(bert_folder)
    with pytest.raises(ModelLoadError, match="no readable config"):
        LLMLinguaCompressor(tmp_path)


def test_pickled_weights_are_not_read(causal_folder, tmp_path):
    for file in causal_folder.iterdir():
        if file.suffix == ".safetensors":
            torch.save({}, tmp_path / "pytorch_model.bin")
        else:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ModelLoadError, match="cannot be loaded on 'cpu'"):
        LLMLinguaCompressor(tmp_path)


def test_dequantize_says_what_is_wrong(tmp_path):
    with pytest.raises(ModelLoadError, match="does not exist"):
        dequantize(tmp_path / "model.gguf", tmp_path / "folder")
    (tmp_path / "model.gguf").write_bytes(b"GGUF and nothing more")
    with pytest.raises(StorageError, match="exists already"):
        dequantize(tmp_path / "model.gguf", tmp_path)
    with pytest.raises(ModelLoadError, match="transformers cannot read"):
        dequantize(tmp_path / "model.gguf", tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.model
def test_a_gguf_model_scores_alike_in_both_forms(smollm, tmp_path):
    from leanrag.models import resolve

    folder = dequantize(resolve("smollm2-135m"), tmp_path / "smollm2")
    assert [path.name for path in tmp_path.iterdir()] == ["smollm2"]
    compressor = LLMLinguaCompressor(folder)
    text = DOCUMENTS[0]
    theirs = float(compressor._driver.get_ppl(text, "token").sum())
    ours = -smollm.score(text).total
    assert theirs == pytest.approx(ours, rel=0.02)
    result = compressor.compress(DOCUMENTS, count_tokens=smollm.count_tokens, budget=60, question=QUESTION)
    check(result, 60, smollm.count_tokens)
    assert "330 metres" in result.text
