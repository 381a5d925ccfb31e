"""Embedding with llama.cpp: a converted model gives the original's vectors, and nothing reaches an assertion in C."""

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import unicodedata
from itertools import chain

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from leanrag.errors import ConfigurationError, GenerationError, ModelLoadError, StorageError
from leanrag.llama import GpuOptions
from leanrag.llama import embedder as embedder_module
from leanrag.llama.embedder import LlamaCppEmbedder, _groups
from leanrag.llama.files import check_gguf
from leanrag.llama.files.convert import convert_bert
from leanrag.llama.library import Device, library
from tests.examples import max_examples

WIDTH, HEADS, FEED_FORWARD, LAYERS, POSITIONS, WINDOW = 32, 2, 64, 2, 64, 48
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["sun", "moon", "rise", "sep", "cl", "mask", "the", "."]
PIECES = ["##s", "##set", "##rise", "##ing", "##ᅡ", "##ᆫ"]
MARKS = [*"[]#,!?", "ᄋ"]
TOKENS = [
    *SPECIAL,
    *WORDS,
    *PIECES,
    *MARKS,
    *"abcdefghijklmnopqrstuvwxyz",
    *(f"##{c}" for c in "abcdefghijklmnopqrtuvwxyz"),
]
ID = {token: number for number, token in enumerate(TOKENS)}
TEXTS = ["the sunrise.", "moon", "", "Sunset, the moons!", "the " * 40, "rising sun? rising moon!"]
words = st.lists(st.sampled_from(["sun", "moonrise", "THE", "x", "[SEP]", "é", "\u4e00"]), max_size=20).map(" ".join)


def weights(seed=0):
    random = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (len(TOKENS), WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attention.self.query", WIDTH, WIDTH),
            ("attention.self.key", WIDTH, WIDTH),
            ("attention.self.value", WIDTH, WIDTH),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", FEED_FORWARD, WIDTH),
            ("output.dense", WIDTH, FEED_FORWARD),
            ("attention.output.LayerNorm", WIDTH, None),
            ("output.LayerNorm", WIDTH, None),
        ):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (rows, columns) if columns else (rows,)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (rows,)
    return {
        name: random.normal(1 if name.endswith("LayerNorm.weight") else 0, 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_json(folder, name, value):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def change_json(folder, name, **changes):
    write_json(folder, name, json.loads((folder / name).read_text(encoding="utf-8")) | changes)


def write_folder(folder, *, pooling="mean", prompts=None):
    """Write what `SentenceTransformer.save` would of a tiny BERT."""
    folder.mkdir()
    config = {
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH, "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS, "intermediate_size": FEED_FORWARD, "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "vocab_size": len(TOKENS),
    }  # fmt: skip
    modules = [("", "models.Transformer"), ("1_Pooling", "models.Pooling"), ("2_Normalize", "models.Normalize")]
    write_json(folder, "config.json", config)
    write_json(
        folder, "modules.json", [{"path": path, "type": f"sentence_transformers.{kind}"} for path, kind in modules]
    )
    write_json(folder, "sentence_bert_config.json", {"max_seq_length": WINDOW})
    write_json(folder, "config_sentence_transformers.json", {"prompts": prompts or {}})
    write_json(folder, "1_Pooling/config.json", {"embedding_dimension": WIDTH, "pooling_mode": pooling})
    write_json(
        folder,
        "tokenizer.json",
        {
            "added_tokens": [{"id": ID[token], "content": token, "special": True} for token in SPECIAL],
            "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
            "model": {"type": "WordPiece", "vocab": ID},
        },
    )
    save_file(weights(), folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("bert") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_bert_gguf(tiny_bert):
    return convert_bert(tiny_bert, tiny_bert.parent / "tiny-bert.gguf", type="f32")


@pytest.fixture(scope="session")
def embedder(tiny_bert_gguf):
    with LlamaCppEmbedder(tiny_bert_gguf, threads=1) as embedder:
        yield embedder


@pytest.fixture
def folder(tmp_path, tiny_bert):
    return shutil.copytree(tiny_bert, tmp_path / "copy")


# The reference: Devlin et al., NAACL 2019, in NumPy


def wordpieces(text):
    """Tokens of plain text by the rules of BERT's own tokenizer: greedy, longest first."""
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn").lower()
    text = "".join(c if c.isalnum() and not "\u4e00" <= c <= "\u9fff" else f" {c} " for c in text)
    return [*chain.from_iterable(pieces_of(word) for word in text.split())]


def pieces_of(word):
    pieces, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        end = next((end for end in range(len(word), start, -1) if mark + word[start:end] in ID), None)
        if end is None:
            return ["[UNK]"]
        pieces.append(mark + word[start:end])
        start = end
    return pieces


def reference(text, pooling="mean"):
    tensors = weights()

    def linear(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def normed(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def heads(x):
        return x.reshape(len(x), HEADS, -1).swapaxes(0, 1)  # (heads, n, size)

    ids = [ID[token] for token in ("[CLS]", *wordpieces(text), "[SEP]")]
    x = tensors["embeddings.word_embeddings.weight"][ids] + tensors["embeddings.position_embeddings.weight"][: len(ids)]
    x = normed(x + tensors["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")  # (n, width)
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        q, k, v = (heads(linear(x, f"{at}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(WIDTH / HEADS))  # (heads, n, n)
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(x.shape)
        x = normed(x + linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
        x = normed(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    row = {"mean": x.mean(0), "cls": x[0], "lasttoken": x[-1]}[pooling]
    return row / np.linalg.norm(row)


# Vectors


@pytest.mark.parametrize("type_name", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_vectors_are_the_network_s(tmp_path, pooling, type_name):
    target = convert_bert(write_folder(tmp_path / "model", pooling=pooling), tmp_path / "model.gguf", type=type_name)
    with LlamaCppEmbedder(target, threads=1) as embedder:
        rows = embedder.embed_documents(TEXTS)
    assert (rows.dtype, rows.shape) == (np.float32, (len(TEXTS), WIDTH))
    expected = np.stack([reference(text, pooling) for text in TEXTS])
    assert (rows * expected).sum(axis=1).min() > (0.999 if type_name == "bf16" else 0.9999)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


@max_examples(30)
@given(texts=st.lists(words, min_size=1, max_size=12))
def test_any_text_has_the_network_s_vector(embedder, texts):
    texts = [text for text in texts if embedder.count_tokens(text) <= embedder.max_tokens]
    rows = embedder.embed_queries(texts)
    assert rows.shape == (len(texts), WIDTH)
    for row, text in zip(rows, texts, strict=True):
        assert row @ reference(text) > 0.9999


@pytest.mark.parametrize("batch_tokens", [1, 50, 1000])
def test_rows_do_not_depend_on_the_batch(tiny_bert_gguf, embedder, batch_tokens):
    texts = [*TEXTS, *("sun " * n for n in range(46)), *["moon"] * 300]
    with LlamaCppEmbedder(tiny_bert_gguf, threads=1, batch_tokens=batch_tokens) as other:
        rows = other.embed_documents(texts)
    alone = np.concatenate([embedder.embed_documents([text]) for text in texts[:52]])
    np.testing.assert_allclose(rows[:52], alone, atol=2e-3)  # attention rounds to 16 bits, by the rows beside it
    assert (rows[:52] * alone).sum(axis=1).min() > 0.99999
    assert (rows[52:] @ alone[1]).min() > 0.99999


@given(
    lengths=st.lists(st.integers(0, 40), max_size=60),
    limit=st.integers(1, 60),
    most=st.integers(1, 8),
)
def test_groups_hold_every_sequence_once_and_fit(lengths, limit, most):
    groups = list(_groups(lengths, limit, most))
    assert sorted(chain(*groups)) == [number for number, length in enumerate(lengths) if length]
    for group in groups:
        assert len(group) <= most
        assert sum(lengths[number] for number in group) <= max(limit, lengths[group[0]])
        assert sorted(group, key=lambda number: lengths[number]) == group


def test_in_the_background_rows_are_the_same(tiny_bert_gguf, embedder):
    is_linux = sys.platform == "linux"
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) if is_linux else 0
    with LlamaCppEmbedder(tiny_bert_gguf, priority="background") as other:
        assert other.id == embedder.id
        np.testing.assert_array_equal(other.embed_documents(TEXTS), embedder.embed_documents(TEXTS))
        names = {thread.name: thread.native_id for thread in threading.enumerate()}
        if is_linux:
            assert os.getpriority(os.PRIO_PROCESS, names["leanrag embedder_0"]) >= 10
            assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_no_texts_are_no_rows(embedder):
    rows = embedder.embed_queries([])
    assert (rows.shape, rows.dtype) == ((0, WIDTH), np.float32)


@pytest.mark.slow
def test_quantized_weights_give_about_the_same_vectors(tmp_path, tiny_bert_gguf):
    from leanrag.llama.files.quantize import quantize

    quantize(tiny_bert_gguf, tmp_path / "q8.gguf", type="q8_0", threads=1)
    with LlamaCppEmbedder(tmp_path / "q8.gguf", threads=1) as embedder:
        rows = embedder.embed_documents(TEXTS)
    assert (rows * np.stack([reference(text) for text in TEXTS])).sum(axis=1).min() > 0.999


# Tokens


def test_tokens_are_wordpiece_s(embedder):
    def tokens(text):
        return [TOKENS[number] for number in embedder._encoder.tokenize(text)]

    assert tokens("") == ["[CLS]", "[SEP]"]
    assert tokens("The Sunset,  moons") == ["[CLS]", "the", "sun", "##set", ",", "moon", "##s", "[SEP]"]
    assert tokens("é sun\u4e00") == ["[CLS]", "e", "sun", "[UNK]", "[SEP]"]
    assert tokens("안") == ["[CLS]", "ᄋ", "##ᅡ", "##ᆫ", "[SEP]"]  # a syllable is its letters
    assert tokens("\ud800") == ["[CLS]", "?", "[SEP]"]  # half a character


def test_control_tokens_in_a_text_are_plain_text(embedder):
    assert embedder.count_tokens("[SEP]") == 5
    assert embedder.count_tokens("[SEP] \u4e00 [CLS]") == 2 + 3 + 1 + 4
    assert [TOKENS[number] for number in embedder._encoder.tokenize("[MASK]")] == ["[CLS]", "[", "mask", "]", "[SEP]"]
    rows = embedder.embed_documents(["sun [SEP] moon", "sun [ sep ] moon"])
    assert rows[0] @ rows[1] > 0.99999


@given(text=st.text(max_size=60))
def test_any_text_can_be_counted_and_begins_and_ends_once(embedder, text):
    tokens = embedder._encoder.tokenize(text)
    assert (tokens[0], tokens[-1]) == (ID["[CLS]"], ID["[SEP]"])
    assert not {ID["[CLS]"], ID["[SEP]"], ID["[PAD]"], ID["[MASK]"]} & set(tokens[1:-1])
    assert embedder.count_tokens(text) == len(tokens)


def test_long_texts_are_refused(embedder):
    assert embedder.max_tokens == WINDOW
    assert embedder.embed_queries(["sun " * (WINDOW - 2)]).shape == (1, WIDTH)
    with pytest.raises(ConfigurationError, match=rf"query has {WINDOW + 1} tokens, but .* reads at most {WINDOW}"):
        embedder.embed_queries(["ok", "sun " * (WINDOW - 1)])
    with pytest.raises(ConfigurationError, match="document has 10002 tokens"):
        embedder.embed_documents(["sun " * 10000])
    with pytest.raises(ConfigurationError, match="got a string"):
        embedder.embed_documents("sun")


def test_a_smaller_window_can_be_set(tiny_bert_gguf, embedder):
    with LlamaCppEmbedder(tiny_bert_gguf, threads=1, n_ctx=6) as small:
        assert small.max_tokens == 6
        assert small.embed_queries(["the sun rise s"]) @ embedder.embed_queries(["the sun rise s"])[0] > 0.9999
        with pytest.raises(ConfigurationError, match="reads at most 6"):
            small.embed_queries(["the sun rise s ."])


# Identity and prefixes


def test_prefixes_change_identity_rows_and_room(tiny_bert_gguf, embedder):
    with LlamaCppEmbedder(tiny_bert_gguf, threads=1, query_prefix="the moon ") as other:
        assert other.id != embedder.id
        assert other.max_tokens == WINDOW - 2
        assert other.embed_queries(["sun"])[0] @ reference("the moon sun") > 0.9999
        assert other.embed_documents(["sun"])[0] @ reference("sun") > 0.9999
        with pytest.raises(ConfigurationError, match="reads at most"):
            other.embed_queries(["sun " * (WINDOW - 3)])
    with pytest.raises(ConfigurationError, match=f"prefixes take 60 of the model's {WINDOW} tokens"):
        LlamaCppEmbedder(tiny_bert_gguf, threads=1, document_prefix="sun " * 60)


def test_prefixes_come_with_the_model(tmp_path):
    prompts = {"query": "the sun ", "document": "moon: ", "other": "x"}
    target = convert_bert(write_folder(tmp_path / "model", prompts=prompts), tmp_path / "model.gguf", type="f32")
    with LlamaCppEmbedder(target, threads=1) as embedder:
        assert embedder.embed_queries(["rise"])[0] @ reference("the sun rise") > 0.9999
        assert embedder.embed_documents(["rise"])[0] @ reference("moon: rise") > 0.9999
    with LlamaCppEmbedder(target, threads=1, query_prefix="") as bare:
        assert bare.embed_queries(["rise"])[0] @ reference("rise") > 0.9999


def test_the_id_says_what_the_vectors_come_from(tmp_path, tiny_bert_gguf, embedder, folder):
    assert embedder.id.startswith("tiny-bert-")
    with LlamaCppEmbedder(shutil.copy(tiny_bert_gguf, tmp_path / "other.gguf"), name="tiny-bert", threads=1) as same:
        assert same.id == embedder.id
        assert repr(same) == f"LlamaCppEmbedder('{embedder.id}', dim={WIDTH}, max_tokens={WINDOW})"
    save_file(weights(seed=1), folder / "model.safetensors")
    changed = convert_bert(folder, tmp_path / "tiny-bert.gguf", type="f32")
    with LlamaCppEmbedder(changed, threads=1) as other:
        assert other.id.startswith("tiny-bert-")
        assert other.id != embedder.id


# Lifetime


def test_threads_may_share_it(embedder):
    expected = embedder.embed_documents(TEXTS)
    failures = []

    def work():
        for _ in range(10):
            rows = embedder.embed_documents(TEXTS)
            if embedder.count_tokens("sun") != 3 or not np.allclose(rows, expected, atol=1e-5):
                failures.append(rows)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_after_close_it_is_an_error(tiny_bert_gguf):
    with LlamaCppEmbedder(tiny_bert_gguf, threads=1) as embedder:
        pass
    embedder.close()
    for call in (embedder.count_tokens, lambda text: embedder.embed_queries([text])):
        with pytest.raises(GenerationError, match=r"tiny-bert\.gguf is closed"):
            call("sun")


def test_it_may_be_closed_while_others_compute(tiny_bert_gguf):
    embedder = LlamaCppEmbedder(tiny_bert_gguf, threads=1, batch_tokens=8)
    has_begun, outcomes = threading.Event(), []

    def work():
        with contextlib.suppress(GenerationError):
            while True:
                outcomes.append(embedder.embed_documents(TEXTS).shape)
                has_begun.set()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert has_begun.wait(60)
    embedder.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert set(outcomes) == {(len(TEXTS), WIDTH)}
    assert embedder._encoder._context is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.slow
def test_a_forked_child_is_refused(tiny_bert_gguf):
    script = textwrap.dedent("""
        import os, sys
        from leanrag.errors import GenerationError
        from leanrag.llama.embedder import LlamaCppEmbedder
        embedder = LlamaCppEmbedder(sys.argv[1], threads=1)
        if os.fork() == 0:
            try:
                embedder.embed_queries(["sun"])
            except GenerationError as error:
                embedder.close()
                os._exit(7 if "is a fork of it" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
        print(embedder.embed_queries(["sun"]).shape)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_bert_gguf)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"(1, {WIDTH})\n"), done.stderr


@pytest.mark.slow
def test_it_needs_no_torch(tiny_bert_gguf):
    script = (
        "import sys; sys.modules.update(torch=None, transformers=None, tokenizers=None, gguf=None, safetensors=None)\n"
        "from leanrag.llama.embedder import LlamaCppEmbedder\n"
        "print(LlamaCppEmbedder(sys.argv[1], threads=1).embed_queries(['sun']).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_bert_gguf)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"(1, {WIDTH})\n", "")


# Files and arguments that cannot work


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": 0}, "`threads` must be from 1 to 512, got 0"),
        ({"threads": 513}, "`threads` must be from 1 to 512, got 513"),
        ({"batch_tokens": 0}, "`batch_tokens` must be from 1 to 65,536, got 0"),
        ({"n_ctx": 0}, "`n_ctx` must be from 1"),
        ({"n_ctx": WINDOW + 1}, f"`n_ctx` must be at most {WINDOW}"),
        ({"gpu": GpuOptions(-2)}, "`gpu.layers` must be 'auto', -1"),
    ],
)
def test_arguments_are_checked(tiny_bert_gguf, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        LlamaCppEmbedder(tiny_bert_gguf, **arguments)


def with_keys(source, target, **keys):
    """Copy a GGUF file with other metadata, by its last name; None leaves a key out."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in (
            "general.architecture",
            *(f"{architecture}.{k}" for k in keys),
        ):
            writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if field.types[1:] else None)
    for name, value in keys.items():
        if value is not None:
            writer.add_uint32(f"{architecture}.{name}", value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pooling_type": None}, "has no pooling type, like files of generative models"),
        ({"pooling_type": 0}, "returns a vector for each token"),
        ({"pooling_type": 4}, "it is a reranker"),
        ({"pooling_type": 77}, "pools in an unknown way, 77"),
        ({"attention.head_count": 3}, "3 heads do not divide a width of 32"),
        ({"attention.key_length": 8}, "2 heads do not divide"),
        ({"embedding_length": 64}, "embedding_length is 64, but token_embd.weight has rows of 32"),
        ({"context_length": 100}, "llama.cpp cannot load"),
    ],
)
def test_files_that_are_no_embedders_are_refused(tmp_path, tiny_bert_gguf, keys, message):
    path = with_keys(tiny_bert_gguf, tmp_path / "changed.gguf", **keys)
    with pytest.raises(ModelLoadError, match=message) as caught:
        LlamaCppEmbedder(path, threads=1)
    assert caught.value.path == path


def test_a_chat_model_is_refused(tiny_gguf):
    with pytest.raises(ModelLoadError, match=r"\(llama\) is not an embedding model: it has no pooling type"):
        LlamaCppEmbedder(tiny_gguf)


def test_a_missing_or_damaged_file_is_refused(tmp_path, tiny_bert_gguf):
    with pytest.raises(ModelLoadError, match="No such file"):
        LlamaCppEmbedder(tmp_path / "none.gguf")
    (tmp_path / "cut.gguf").write_bytes(tiny_bert_gguf.read_bytes()[:-1000])
    with pytest.raises(ModelLoadError, match="truncated"):
        LlamaCppEmbedder(tmp_path / "cut.gguf")


def test_a_decoder_that_pools_embeds(tmp_path, tiny_gguf):
    path = with_keys(tiny_gguf, tmp_path / "decoder.gguf", pooling_type=3)
    texts = ["sun", "moon <|im_end|>", "x" * 200, *(f"text {i}" for i in range(40))]
    with LlamaCppEmbedder(path, threads=1) as embedder, LlamaCppEmbedder(path, threads=1, batch_tokens=1) as single:
        assert embedder.count_tokens("sun") == 4  # BOS and a token a byte
        assert embedder.count_tokens("<|im_end|>") == 11
        rows = embedder.embed_documents(texts)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
        assert (rows * embedder.embed_documents(texts)).sum(axis=1).min() > 0.9999  # nothing is left of the first time
        assert (rows * single.embed_documents(texts)).sum(axis=1).min() > 0.999


# Conversion


def test_the_file_says_what_the_model_is(tiny_bert_gguf):
    info = check_gguf(tiny_bert_gguf)
    assert info.architecture == "bert"
    assert info.n_ctx_train == WINDOW  # the table of positions is cut to what is read
    assert info.number("pooling_type") == 1
    assert info.metadata["bert.attention.causal"] is False
    assert info.metadata["general.name"] == "tiny-bert"


def test_matrices_are_of_the_type_asked_for(tmp_path, tiny_bert, tiny_bert_gguf):
    for type_name in ("f16", "bf16"):
        half = check_gguf(convert_bert(tiny_bert, tmp_path / "half.gguf", type=type_name, overwrite=True))
        assert half.tensor_types == {type_name.upper(): 1 + 6 * LAYERS, "F32": 4 + 10 * LAYERS}
    assert check_gguf(tiny_bert_gguf).tensor_types == {"F32": 5 + 16 * LAYERS}


def test_the_same_folder_gives_the_same_bytes(tmp_path, tiny_bert, tiny_bert_gguf):
    again = convert_bert(tiny_bert, tmp_path / "tiny-bert.gguf", type="f32")
    assert again.read_bytes() == tiny_bert_gguf.read_bytes()


def test_older_folders_are_read(tmp_path, folder, embedder):
    (folder / "tokenizer.json").unlink()
    (folder / "sentence_bert_config.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    write_json(folder, "tokenizer_config.json", {"do_lower_case": True, "model_max_length": WINDOW})
    write_json(folder, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})
    prefixed = {f"bert.{name}": tensor.astype(np.float16) for name, tensor in weights().items()}
    save_file(prefixed | {"bert.pooler.dense.bias": np.zeros(3, np.float32)}, folder / "model.safetensors")
    with LlamaCppEmbedder(convert_bert(folder, tmp_path / "old.gguf"), threads=1) as old:
        assert (old.embed_queries(TEXTS) * embedder.embed_queries(TEXTS)).sum(axis=1).min() > 0.9999


def test_case_matters_when_the_model_says_so(tmp_path, folder):
    change_json(
        folder, "tokenizer.json", normalizer={"type": "BertNormalizer", "lowercase": False, "strip_accents": None}
    )
    with LlamaCppEmbedder(convert_bert(folder, tmp_path / "cased.gguf"), threads=1) as cased:
        assert cased._encoder.tokenize("sun Sun sún")[1:-1] == [ID["sun"], ID["[UNK]"], ID["[UNK]"]]


def damaged(name, data=None):
    def damage(folder):
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)

    return damage


def changed(name, **changes):
    return lambda folder: change_json(folder, name, **changes)


def retensored(**changes):
    def damage(folder):
        tensors = weights() | {name.replace("__", "."): tensor for name, tensor in changes.items()}
        save_file({name: t for name, t in tensors.items() if t is not None}, folder / "model.safetensors")

    return damage


def modules(*kinds):
    value = [{"path": "" if i == 0 else f"{i}_{kind}", "type": f"x.{kind}"} for i, kind in enumerate(kinds)]
    return lambda folder: write_json(folder, "modules.json", value)


NORMALIZER = {"type": "BertNormalizer", "lowercase": True}
WORDPIECE = {"type": "WordPiece", "vocab": ID}
POSITION = "embeddings__position_embeddings__weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged("config.json"), r"config\.json is missing"),
        (damaged("config.json", b"{"), r"config\.json cannot be read"),
        (damaged("config.json", b"[" * 100_000), r"config\.json cannot be read"),
        (damaged("config.json", b"[]"), r"config\.json has no JSON object"),
        (damaged("modules.json"), r"modules\.json is missing"),
        (damaged("modules.json", b'["x"]'), r"modules\.json is missing or has no list of modules"),
        (damaged("1_Pooling/config.json"), "1_Pooling/config.json is missing"),
        (damaged("model.safetensors"), r"model\.safetensors is missing"),
        (damaged("model.safetensors", b"x" * 100), r"model\.safetensors cannot be read"),
        (damaged("tokenizer.json"), r"neither tokenizer\.json nor vocab\.txt"),
        (changed("config.json", model_type="roberta"), "`model_type` is 'roberta', not 'bert'"),
        (changed("config.json", hidden_act="relu"), "`hidden_act` is 'relu'"),
        (changed("config.json", position_embedding_type="relative_key"), "`position_embedding_type`"),
        (changed("config.json", is_decoder=True), "`is_decoder` is True"),
        (
            changed("config.json", num_attention_heads=5),
            "`hidden_size` 32 must be a multiple of `num_attention_heads`, which is 5",
        ),
        (changed("config.json", hidden_size="32"), "`hidden_size` is '32', but must be a positive integer"),
        (changed("config.json", layer_norm_eps=None), "`layer_norm_eps` is None"),
        (changed("config.json", num_hidden_layers=3), r"no tensor 'encoder\.layer\.2\.attention\.self\.query\.weight'"),
        (changed("config.json", intermediate_size=63), r"has the shape \(64, 32\), not \(63, 32\)"),
        (changed("config.json", max_position_embeddings=65), "position_embeddings.weight has the shape"),
        (changed("sentence_bert_config.json", max_seq_length=0), "`max_seq_length` is 0"),
        (changed("1_Pooling/config.json", pooling_mode="max"), r"the pooling mode is \['max'\]"),
        (changed("1_Pooling/config.json", pooling_mode=["mean", "cls"]), "the pooling mode"),
        (changed("1_Pooling/config.json", include_prompt=False), "`include_prompt` is False"),
        (modules("Transformer", "Pooling", "Dense"), "the list of modules is .*Dense"),
        (modules("WordEmbeddings", "Pooling"), "the list of modules is .*WordEmbeddings"),
        (changed("tokenizer.json", model={"type": "BPE"}), "the tokenizer is 'BPE'"),
        (changed("tokenizer.json", model={"type": "WordPiece"}), "vocabulary in tokenizer.json is damaged"),
        (changed("tokenizer.json", model=WORDPIECE | {"vocab": ID | {"x": 999}}), "number its tokens from 0"),
        (
            changed("tokenizer.json", model=WORDPIECE | {"vocab": ID | {"y": "z"}}),
            "vocabulary in tokenizer.json is damaged",
        ),
        (changed("tokenizer.json", normalizer=None), "does not describe a WordPiece tokenizer"),
        (changed("tokenizer.json", normalizer=NORMALIZER | {"clean_text": False}), "`clean_text` is False"),
        (changed("tokenizer.json", added_tokens=[]), r"no special token \[CLS\]"),
        (retensored(**{POSITION: np.zeros((POSITIONS, WIDTH), np.int32)}), "is 'int32', not 'float32' or 'float16'"),
        (retensored(**{POSITION: np.full((POSITIONS, WIDTH), np.nan, np.float32)}), "not finite as F32"),
        (retensored(embeddings__LayerNorm__bias=None), r"no tensor 'embeddings\.LayerNorm\.bias'"),
        (retensored(embeddings__word_embeddings__weight=np.ones((9, WIDTH), np.float32)), r"the shape \(9, 32\)"),
        (
            retensored(embeddings__word_embeddings__weight=np.full((len(TOKENS), WIDTH), 1e6, np.float32)),
            "token_embd.weight holds numbers that are not finite as F16",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, folder, damage, message):
    damage(folder)
    with pytest.raises(ModelLoadError, match=message) as caught:
        convert_bert(folder, tmp_path / "model.gguf")
    assert caught.value.path == folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]  # no file, and no part of one


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ModelLoadError, match="is not a folder"):
        convert_bert(tmp_path / "none", tmp_path / "model.gguf")


def test_targets_are_checked(tmp_path, tiny_bert):
    with pytest.raises(ConfigurationError, match="`type` must be 'f16', 'bf16' or 'f32', got 'q4_0'"):
        convert_bert(tiny_bert, tmp_path / "model.gguf", type="q4_0")
    target = tmp_path / "model.gguf"
    target.write_text("mine")
    with pytest.raises(StorageError, match="exists already"):
        convert_bert(tiny_bert, target)
    assert target.read_text() == "mine"
    assert check_gguf(convert_bert(tiny_bert, target, overwrite=True)).architecture == "bert"
    with pytest.raises(StorageError, match="is a folder"):
        convert_bert(tiny_bert, tmp_path, overwrite=True)
    with pytest.raises(StorageError, match="cannot write"):
        convert_bert(tiny_bert, tmp_path / "none" / "model.gguf")


# The real model


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    from leanrag.models import resolve

    path = convert_bert(resolve("all-minilm-l6-v2"), tmp_path_factory.mktemp("minilm") / "minilm.gguf")
    with LlamaCppEmbedder(path) as embedder:
        yield embedder


@pytest.mark.model
class TestModel:
    def test_it_loads_without_a_warning(self, tmp_path, caplog):
        from leanrag.models import resolve

        LlamaCppEmbedder(convert_bert(resolve("all-minilm-l6-v2"), tmp_path / "minilm.gguf")).close()
        assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []

    def test_vectors_and_tokens_are_those_of_torch(self, real, minilm):
        texts = [
            "hello world",
            "",
            "The global statement binds a name in the module namespace.",
            "Naïve café — “quoted”, 3.14 € and 日本語, Ελληνικά, 안녕하세요!",
            "word " * 254,
            "def f(x): return {'a': x[0], **kw}  # comment",
        ]
        assert [real.count_tokens(text) for text in texts] == [minilm.count_tokens(text) for text in texts]
        assert (real.dim, real.max_tokens) == (minilm.dim, minilm.max_tokens) == (384, 256)
        cosines = (real.embed_documents(texts) * minilm.embed_documents(texts)).sum(axis=1)
        assert cosines.min() > 0.9999

    def test_long_texts_are_refused(self, real):
        with pytest.raises(ConfigurationError, match=r"query has 257 tokens, but .* reads at most 256"):
            real.embed_queries(["word " * 255])


# GPUs


def test_a_load_that_fails_on_a_gpu_is_tried_with_half_the_layers_and_with_none(tiny_bert_gguf, monkeypatch, caplog):
    lib, refusals = library(), [True]
    init = lib.llama_init_from_model
    monkeypatch.setattr(embedder_module, "gpu_devices", lambda: [Device("CUDA0", "a GPU", "gpu", 2**33, 2**33)])
    monkeypatch.setattr(lib, "llama_init_from_model", lambda *args: None if refusals.pop() else init(*args))
    refusals[:] = [False, True]
    with LlamaCppEmbedder(tiny_bert_gguf, threads=1) as model:
        assert 0 < model.placement.n_layers // 2 == model.placement.layers
        assert model.embed_queries(["abc"]).shape == (1, model.dim)
    assert "instead of" in caplog.text
    refusals[:] = [False, True, True]
    with LlamaCppEmbedder(tiny_bert_gguf, threads=1) as model:
        assert model.placement.layers == 0
        assert model.embed_queries(["abc"]).shape == (1, model.dim)
    refusals[:] = [True]
    with pytest.raises(ModelLoadError, match="needs more memory"):
        LlamaCppEmbedder(tiny_bert_gguf, threads=1, gpu=GpuOptions(1))
    assert not refusals
