"""`PromptCompressor` beside that of llmlingua: which parameters do the same, and how many words both keep.

The package runs as it is, on the same weights, with its states in the format of current transformers, and with our sentences
instead of those of nltk, whose data has to be downloaded. Nothing is protected. Parameters are compared on tiny random scorers, for
they hold whatever the weights say; words on SmolLM2-135M and on a random classifier.
"""

from __future__ import annotations

import functools
import importlib
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.compression.tiny import tiny_causal, tiny_classifier
from leanrag.compression.compat import PromptCompressor
from leanrag.compression.lingua import LLMLinguaCompressor
from leanrag.compression.lingua.driver import encode
from leanrag.evidence.protection import Protection
from leanrag.models import token_counter
from leanrag.text import split_sentences

__all__ = ["LONGLLMLINGUA", "lingua_parts", "word_overlap"]

Figures = dict[str, float | int | None]
Report = Mapping[str, Any]
Check = Callable[[PromptCompressor, Sequence[str]], bool]

LONGLLMLINGUA: Mapping[str, Any] = {
    "condition_in_question": "after_condition",
    "reorder_context": "sort",
    "dynamic_context_compression_ratio": 0.3,
    "condition_compare": True,
    "context_budget": "+100",
    "rank_method": "longllmlingua",
}
"""What the package recommends."""

_WORD = re.compile(r"\w+|[^\w\s]")
_SAME = 0.95  # word overlap of results that are called the same
_QUESTION = "How tall is the tower?"
_ASKING = {"question": _QUESTION, **LONGLLMLINGUA}

_COMPARED: Mapping[str, Mapping[str, Any]] = {
    "context": {},
    "instruction": {"instruction": "Be brief."},
    "question": {"question": _QUESTION},
    "rate": {"rate": 0.3},
    "target_token": {"target_token": 150},
    "iterative_size": {"iterative_size": 100},
    "force_context_ids": {"force_context_ids": [2], "target_token": 60},
    "use_sentence_level_filter": {"use_sentence_level_filter": True},
    "use_context_level_filter": {"use_context_level_filter": False},
    "use_token_level_filter": {"use_token_level_filter": False, "target_token": 60},
    "context_budget": {"context_budget": "*1.5", "target_token": 60},
    "token_budget_ratio": {"use_sentence_level_filter": True, "token_budget_ratio": 1.0},
    "condition_in_question": {**_ASKING, "condition_in_question": "before"},
    "reorder_context": {**_ASKING, "reorder_context": "two_stage"},
    "dynamic_context_compression_ratio": {**_ASKING, "dynamic_context_compression_ratio": 0.6},
    "condition_compare": {**_ASKING, "condition_compare": False},
    "add_instruction": {**_ASKING, "instruction": "Be brief.", "add_instruction": True},
    "rank_method": {"question": _QUESTION, "rank_method": "gzip"},
    "concate_question": {"question": _QUESTION, "concate_question": False},
}
"""Options of `compress_prompt` with a causal language model, by the parameter that they try."""

_COMPARED_2: Mapping[str, Mapping[str, Any]] = {
    "target_context": {"use_context_level_filter": True, "target_context": 1},
    "context_level_rate": {"use_context_level_filter": True, "context_level_rate": 0.7},
    "context_level_target_token": {"use_context_level_filter": True, "context_level_target_token": 60},
    "return_word_label": {"return_word_label": True},
    "word_sep": {"return_word_label": True, "word_sep": "|"},
    "label_sep": {"return_word_label": True, "label_sep": "="},
    "token_to_word": {"token_to_word": "first"},
    "force_tokens": {"force_tokens": [".", ","]},
    "force_reserve_digit": {"force_reserve_digit": True, "rate": 0.4},
    "drop_consecutive": {"force_tokens": ["."], "drop_consecutive": True, "rate": 0.3},
    "chunk_end_tokens": {"chunk_end_tokens": [","]},
}
"""Options of `compress_prompt` with a classifier."""

_FILTER: Mapping[str, Any] = {
    "use_sentence_level_filter": True,
    "use_token_level_filter": False,
    "use_context_level_filter": False,
}


def _keeps_sentences(ours: PromptCompressor, texts: Sequence[str], **options: Any) -> bool:
    """Whether the sentences that are asked for stay in a text of which most goes."""
    spans = split_sentences(texts[0])
    kept = ours.compress_prompt([texts[0]], target_token=1, token_budget_ratio=1.0, **_FILTER, **options)
    low, high = options.get("keep_first_sentence", 0), options.get("keep_last_sentence", 0)
    wanted = [texts[0][start:end] for start, end in [*spans[:low], *spans[len(spans) - high :]]]
    return all(text in kept["compressed_prompt"] for text in wanted) and len(kept["compressed_prompt"]) < len(texts[0])


def _keeps_a_sentence_of_each(ours: PromptCompressor, texts: Sequence[str]) -> bool:
    report = ours.compress_prompt(list(texts), target_token=1, keep_sentence_number=1, **_FILTER)
    return len(report["compressed_prompt"].split("\n\n")) == len(texts)


def _bonus_counts(ours: PromptCompressor, texts: Sequence[str]) -> bool:
    options: Mapping[str, Any] = {**_FILTER, "target_token": 1, "keep_last_sentence": 3}
    with_bonus, without = (
        len(ours.compress_prompt([texts[0]], high_priority_bonus=bonus, **options)["compressed_prompt"])
        for bonus in (100, 0)
    )
    return bool(without < with_bonus < len(texts[0]))


def _keeps_blank_lines(ours: PromptCompressor, texts: Sequence[str]) -> bool:
    text = "\n\n".join(texts[0][start:end] for start, end in split_sentences(texts[0]))
    kept = ours.compress_prompt([text], rate=0.3, keep_split=True)["compressed_prompt"]
    return bool(kept.count("\n\n") == text.count("\n\n"))


def _keeps_so_many(ours: PromptCompressor, texts: Sequence[str]) -> bool:
    options: Mapping[str, Any] = {"target_token": 1, "use_token_level_filter": False}
    return all(
        sum(text in ours.compress_prompt(list(texts), force_context_number=n, **options)["compressed_prompt"] for text in texts)
        == n
        for n in (1, 2)
    )  # fmt: skip


def _keeps_uncompressed(ours: PromptCompressor, texts: Sequence[str], **options: Any) -> bool:
    """Whether a part that is not compressed stays, although its document ranks last."""
    tagged = [
        f"<llmlingua, compress=False>a < b {text}</llmlingua>" if i == 1 else text for i, text in enumerate(texts)
    ]
    report = ours.structured_compress_prompt(tagged, target_token=1, **options)
    return f"a < b {texts[1]}" in report["compressed_prompt"]


def _segments_are_tags(ours: PromptCompressor, texts: Sequence[str]) -> bool:
    """Whether `context_segs` and its rates do what tags do."""
    tagged = [f"<llmlingua, rate=0.2>{text}</llmlingua>" for text in texts]
    by_tags = ours.structured_compress_prompt(tagged)
    by_lists = ours.compress_prompt(
        list(texts),
        context_segs=[[text] for text in texts],
        context_segs_rate=[[0.2]] * len(texts),
        context_segs_compress=[[True]] * len(texts),
    )
    return bool(by_tags == by_lists and by_tags["compressed_tokens"] < by_tags["origin_tokens"])


def _json_stays(ours: PromptCompressor, texts: Sequence[str]) -> bool:
    data = {"a": "Smith, John", "b": [texts[0], 3], "c": True}
    config = {
        key: {"rate": rate, "compress": rate < 1, "value_type": kind, "pair_remove": False}
        for key, rate, kind in (("a", 1, "str"), ("b", 0.4, "list"), ("c", 1, "bool"))
    }
    result = ours.compress_json(data, config)["compressed_prompt"]
    return result["a"] == "Smith, John" and result["b"][1] == 3 and len(result["b"][0]) < len(texts[0])


def _recovers(ours: PromptCompressor, _texts: Sequence[str]) -> bool:
    original, compressed = "The tower was finished in 1889 and is tall.", "tower finished 1889"
    return ours.recover(original, compressed, "So tower finished 1889 .") == "So tower was finished in 1889 ."


_CHECKED: Mapping[str, Check] = {
    "force_context_number": _keeps_so_many,
    "keep_split": _keeps_blank_lines,
    "keep_first_sentence": functools.partial(_keeps_sentences, keep_first_sentence=2),
    "keep_last_sentence": functools.partial(_keeps_sentences, keep_last_sentence=2),
    "keep_sentence_number": _keeps_a_sentence_of_each,
    "high_priority_bonus": _bonus_counts,
    "context_segs": _segments_are_tags,
    "context_segs_rate": _segments_are_tags,
    "context_segs_compress": _keeps_uncompressed,
    "strict_preserve_uncompressed": functools.partial(_keeps_uncompressed, strict_preserve_uncompressed=True),
    "structured_compress_prompt": _keeps_uncompressed,
    "compress_json": _json_stays,
    "recover": _recovers,
}
"""What the package gets wrong, or cannot be compared with: whether ours does what the documentation of the package says."""


def word_overlap(one: str, other: str) -> float:
    """Return the F1 of the words and punctuation marks of two texts."""
    counts, others = Counter(_WORD.findall(one)), Counter(_WORD.findall(other))
    total = counts.total() + others.total()
    return 2 * (counts & others).total() / total if total else 1.0


class _Counts:
    """Counts tokens for the package as ours does."""

    def __init__(self) -> None:
        self._count = token_counter("cl100k_base")

    def encode(self, text: str) -> range:
        return range(self._count(text))


def package_of(ours: PromptCompressor) -> Any:
    """Return the package's own object on the weights of ours."""
    llmlingua, nltk = map(importlib.import_module, ("llmlingua", "nltk"))
    nltk.__dict__["sent_tokenize"] = lambda text: [text[start:end] for start, end in split_sentences(text)]
    theirs = llmlingua.PromptCompressor.__new__(llmlingua.PromptCompressor)
    theirs.tokenizer, theirs.device, theirs.oai_tokenizer = ours._tokenizer, "cpu", _Counts()
    theirs.use_llmlingua2, theirs.context_idxs = ours.use_llmlingua2, []
    if ours.use_llmlingua2:
        tokenizer = ours._tokenizer
        theirs.model, theirs.model_name = ours._classifier.model, "bert-base-multilingual-cased"
        theirs.max_batch_size, theirs.max_force_token, theirs.max_seq_len = 16, 100, 512
        theirs.added_tokens = [f"[NEW{i}]" for i in range(100)]
        theirs.special_tokens = {tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token}
    else:
        theirs.model, theirs.cache_bos_num, theirs.prefix_bos_num = ours._engine.model, 10, 100
        theirs.max_position_embeddings = ours._engine.max_position_embeddings
    return theirs


def _is_same(ours: PromptCompressor, theirs: Any, texts: Sequence[str], options: Mapping[str, Any]) -> bool:
    if ours.use_llmlingua2:
        options = {"use_context_level_filter": False, **options}
    mine, other = ours.compress_prompt(list(texts), **options), theirs.compress_prompt(list(texts), **options)
    names = ["compressed_prompt", *(["fn_labeled_original_prompt"] if "return_word_label" in options else [])]
    return all(word_overlap(mine[name], other[name]) >= _SAME for name in names)


def _parameters(causal: PromptCompressor, classifier: PromptCompressor, texts: Sequence[str]) -> Figures:
    """Return how many parameters and methods do what the package does, or what its documentation says."""
    works: dict[str, bool] = {}
    theirs, theirs_2 = package_of(causal), package_of(classifier)
    for name, options in _COMPARED.items():
        works[name] = _is_same(causal, theirs, texts, options)
    for name, options in _COMPARED_2.items():
        works[name] = _is_same(classifier, theirs_2, texts, options)
    for name, check in _CHECKED.items():
        works[name] = check(causal, texts)
    missing = [name for name, is_right in works.items() if not is_right]
    print(f"parameters and methods: {sum(works.values())} of {len(works)}", *missing, flush=True)
    return {"lingua_parameters": sum(works.values()), "lingua_parameters_tried": len(works)}


def _overlaps(
    name: str, ours: PromptCompressor, cases: Sequence[tuple[Sequence[str], str]], options: Mapping[str, Any]
) -> Figures:
    theirs = package_of(ours)
    found = []
    for texts, question in tqdm(cases, desc=name, disable=None, leave=False):
        asked = {**options, "question": question, "concate_question": False} if not ours.use_llmlingua2 else options
        mine, other = (each.compress_prompt(list(texts), rate=0.5, **asked) for each in (ours, theirs))
        found.append(word_overlap(mine["compressed_prompt"], other["compressed_prompt"]))
    return _summary(name, found)


def _summary(name: str, found: Sequence[float]) -> Figures:
    print(f"{name}: mean {statistics.fmean(found):.3f}, worst {min(found):.3f}, n={len(found)}", flush=True)
    return {name: statistics.fmean(found), f"{name}_worst": min(found), f"{name}_n": len(found)}


def _whole_words(folder: Path, ours: PromptCompressor, cases: Sequence[tuple[Sequence[str], str]]) -> Figures:
    """Return how far `LLMLinguaCompressor`, which keeps whole words, chooses the words of the package at an equal size.

    The package is asked for stretches of equal length: it keeps the rest behind the last stretch whole, and
    `LLMLinguaCompressor` never does, because of the budget. The package also cuts words. The overlap is therefore that with the
    words of which the package keeps at least half; the best that whole words can reach is the overlap of these with its text.
    """
    compressor = LLMLinguaCompressor(folder, method="llmlingua", protection=Protection(kinds=()))
    count, theirs = token_counter("cl100k_base"), package_of(ours)
    overlaps, best = [], []
    for texts, _question in tqdm(cases, desc="whole words", disable=None, leave=False):
        whole = "\n\n".join(texts)
        tokens = len(encode(ours._tokenizer, [whole]).ids)
        stretch = tokens // max(1, round(tokens / 200))
        other = theirs.compress_prompt(list(texts), rate=0.5, iterative_size=stretch)["compressed_prompt"]
        mine = compressor.compress(list(texts), count_tokens=count, budget=count(other))
        chosen = _chosen_words(whole, other)
        overlaps.append(word_overlap(mine.text, chosen))
        best.append(word_overlap(chosen, other))
    return _summary("lingua_whole_words_overlap", overlaps) | _summary("lingua_whole_words_best", best)


def _chosen_words(text: str, kept: str) -> str:
    """Return the words of `text` of which at least half of the characters are in `kept`, a subsequence of it."""
    is_kept = [False] * len(text)
    for block in SequenceMatcher(None, text, kept, autojunk=False).get_matching_blocks():
        is_kept[block.a : block.a + block.size] = [True] * block.size
    return " ".join(word[0] for word in _WORD.finditer(text) if statistics.fmean(is_kept[slice(*word.span())]) >= 0.5)


def lingua_parts(
    work: Path, scorer: Path | None, passages: Sequence[tuple[Sequence[str], str]], *, n: int
) -> Iterator[tuple[tuple[str, ...], Callable[[], Figures]]]:
    """Yield the names of figures, and what measures them.

    Args:
        work: A folder for the tiny scorers.
        scorer: A folder with a causal language model; None to leave its words out.
        passages: Some passages and a question about one of them, several times.
        n: So many of them are compared; three times as many with the classifier, which is tiny.
    """
    sentences = [texts[0][start:end] for texts, _ in passages[:8] for start, end in split_sentences(texts[0])]
    make = functools.partial(PromptCompressor, device_map="cpu", protection=None)
    classifier = make(tiny_classifier(work / "classifier", sentences), use_llmlingua2=True)
    causal = make(tiny_causal(work / "causal", sentences))
    documents = [" ".join(texts[:2]) for texts, _ in passages[:3]]
    yield ("lingua_parameters",), lambda: _parameters(causal, classifier, documents)
    whole = {"use_context_level_filter": False}
    yield ("lingua2_overlap",), lambda: _overlaps("lingua2_overlap", classifier, passages[: max(4, 3 * n)], whole)
    if scorer is None:
        return
    large, cases = make(scorer), passages[:: max(1, len(passages) // max(1, n))][:n]
    yield ("lingua_overlap",), lambda: _overlaps("lingua_overlap", large, cases, {})
    yield ("longlingua_overlap",), lambda: _overlaps("longlingua_overlap", large, cases, LONGLLMLINGUA)
    names = "lingua_whole_words_overlap", "lingua_whole_words_best"
    yield names, lambda: _whole_words(scorer, large, cases)
