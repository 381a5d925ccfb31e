"""`PromptCompressor` with the signatures of llmlingua 0.2.2: a program changes one import line."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from leanrag.checks import check_choice, check_whole
from leanrag.compression.compat.arguments import (
    check_ids,
    check_names,
    check_rate,
    check_settings,
    check_target,
    find_device,
    find_folder,
    read_documents,
    with_forced,
)
from leanrag.compression.compat.causal import Kept, causal_engine
from leanrag.compression.compat.classifying import ClassifierOptions, LabelledDocument, classify
from leanrag.compression.compat.fields import join_fields, read_fields
from leanrag.compression.compat.ranking import Ranker
from leanrag.compression.compat.recovery import recover
from leanrag.compression.compat.results import joined_documents, label_format, label_words, texts_of_segments
from leanrag.compression.compat.tags import Segment, parse_tags, segments_of
from leanrag.compression.lingua.classifier import TokenClassifier
from leanrag.compression.lingua.driver import LinguaMethod
from leanrag.compression.lingua.loading import classifier_window, load_scorer, package_errors, read_config
from leanrag.compression.lingua.words import TokenToWord
from leanrag.errors import ConfigurationError
from leanrag.evidence.protection import Protection
from leanrag.models import token_counter
from leanrag.protocols import Embedder, Reranker, TokenCounter
from leanrag.spans import join_spans

__all__ = ["PromptCompressor"]

_ENCODING = "cl100k_base"  # the package counts with that of gpt-3.5-turbo
_DOLLARS = 0.06 / 1000  # the price of a token that the package reckons with
_MODEL_CONFIG = ("trust_remote_code", "torch_dtype", "pad_to_left")
_CLASSIFIER_CONFIG = ("max_batch_size", "max_force_token")

Report = dict[str, Any]


class PromptCompressor:
    """The class of the same name of llmlingua: `from leanrag.compression.compat import PromptCompressor`.

    The methods take the parameters of llmlingua 0.2.2, compute what it computes, and return its dictionaries. What is different:

    - Models are read from local folders, and nothing is downloaded. Code of models is not run, and no random generator is seeded.
    - It works with current transformers, and any thread may call; calls run one after another.
    - Numbers, negations, quotations and the other spans of `protection` stay whole wherever a word of their sentence stays. As many
      other tokens are dropped for them. `protection=None` switches this off; then the tokens are those of the package.
    - Tags lose no text, JSON stays valid JSON, and a parameter that cannot work is a `ConfigurationError`.

    As in the package, the target is what the compressor aims at. For a strict budget, and for the offsets of what stays, use
    `leanrag.compression.lingua.LLMLinguaCompressor`.

    Args:
        model_name: A folder of transformers, or the name of a model of the hub that is in its cache on this machine.
        device_map: "cpu", "cuda", "mps" ...; "auto" and "balanced" take a GPU if there is one.
        model_config: `torch_dtype` is used, `pad_to_left` has no effect, and `trust_remote_code` must not be True.
        open_api_config: Must be empty: pass `embedder` instead.
        use_llmlingua2: Whether the model is a token classifier.
        llmlingua2_config: `max_force_token` is the most words of `force_tokens`; `max_batch_size` has no effect.
        protection: What stays whole; None for nothing.
        embedder: Ranks documents for `rank_method="embedding"`, and for "sentbert", "bge" and the other embedders of the package.
        reranker: Ranks documents for `rank_method="reranker"`, "bge_reranker" and "cohere".
        count_tokens: Counts the tokens of the results; None counts with cl100k_base.
        window_tokens: Most tokens that a causal language model reads at a time; fewer if its window is smaller.

    Raises:
        ConfigurationError: An argument cannot work, or the folder contains another kind of model.
        MissingDependencyError: The extra "lingua" is not installed.
        ModelLoadError: The model cannot be loaded.
    """

    def __init__(
        self,
        model_name: str | os.PathLike[str] = "NousResearch/Llama-2-7b-hf",
        device_map: str = "cuda",
        model_config: Mapping[str, Any] | None = None,
        open_api_config: Mapping[str, Any] | None = None,
        use_llmlingua2: bool = False,
        llmlingua2_config: Mapping[str, Any] | None = None,
        *,
        protection: Protection | None = Protection(),  # noqa: B008 - frozen
        embedder: Embedder | None = None,
        reranker: Reranker | None = None,
        count_tokens: TokenCounter | None = None,
        window_tokens: int = 2048,
    ) -> None:
        model_config, llmlingua2_config = dict(model_config or {}), dict(llmlingua2_config or {})
        check_names("model_config", model_config, _MODEL_CONFIG)
        check_names("llmlingua2_config", llmlingua2_config, _CLASSIFIER_CONFIG)
        if model_config.get("trust_remote_code"):
            raise ConfigurationError(
                "`trust_remote_code=True` is not supported: code of a model is never run. Leave it out of `model_config`"
            )
        if open_api_config:
            raise ConfigurationError(
                f"`open_api_config` is not supported, got the keys {sorted(open_api_config)}. Pass `embedder=` with an embedder"
                " that calls the API"
            )
        check_whole(128, window_tokens=window_tokens)
        self.model_name, self.use_llmlingua2 = str(model_name), bool(use_llmlingua2)
        self._protection = protection
        self._max_force_tokens = int(llmlingua2_config.get("max_force_token", 100))
        self._ranker = Ranker(embedder, reranker)
        self._lock = threading.Lock()
        method: LinguaMethod = "llmlingua2" if self.use_llmlingua2 else "llmlingua"
        folder = find_folder(model_name)
        config = read_config(folder, method)
        device = find_device(device_map)
        self._tokenizer, model = load_scorer(folder, method, device, dtype=model_config.get("torch_dtype"))
        self._count = count_tokens or token_counter(_ENCODING)
        if self.use_llmlingua2:
            self._classifier = TokenClassifier(
                self._tokenizer, model, device=device, window=classifier_window(config), family=config["model_type"]
            )
        else:
            positions = config.get("max_position_embeddings") or config.get("n_positions") or window_tokens
            window = min(int(positions), window_tokens)
            self._engine = causal_engine(self._tokenizer, model, device=device, window=window, ranker=self._ranker)

    def __call__(self, *args: Any, **options: Any) -> Report:
        """Call `compress_prompt`."""
        return self.compress_prompt(*args, **options)

    def compress_prompt(
        self,
        context: Sequence[str] | str,
        instruction: str = "",
        question: str = "",
        rate: float = 0.5,
        target_token: float = -1,
        iterative_size: int = 200,
        force_context_ids: Sequence[int] | None = None,
        force_context_number: int | None = None,
        use_sentence_level_filter: bool = False,
        use_context_level_filter: bool = True,
        use_token_level_filter: bool = True,
        keep_split: bool = False,
        keep_first_sentence: int = 0,
        keep_last_sentence: int = 0,
        keep_sentence_number: int = 0,
        high_priority_bonus: int = 100,
        context_budget: str = "+100",
        token_budget_ratio: float = 1.4,
        condition_in_question: str = "none",
        reorder_context: str = "original",
        dynamic_context_compression_ratio: float = 0.0,
        condition_compare: bool = False,
        add_instruction: bool = False,
        rank_method: str = "llmlingua",
        concate_question: bool = True,
        context_segs: Sequence[Sequence[str]] | None = None,
        context_segs_rate: Sequence[Sequence[float]] | None = None,
        context_segs_compress: Sequence[Sequence[bool]] | None = None,
        target_context: int = -1,
        context_level_rate: float = 1.0,
        context_level_target_token: float = -1,
        return_word_label: bool = False,
        word_sep: str = "\t\t|\t\t",
        label_sep: str = " ",
        token_to_word: TokenToWord = "mean",  # noqa: S107 - no password
        force_tokens: Sequence[str] = (),
        force_reserve_digit: bool = False,
        drop_consecutive: bool = False,
        chunk_end_tokens: Sequence[str] = (".", "\n"),
        strict_preserve_uncompressed: bool = True,
    ) -> Report:
        """Compress the documents of `context`; the parameters are those of the package, and docs/compression.md describes them.

        `force_tokens`, `force_reserve_digit` and `return_word_label` work for causal language models too.

        Raises:
            ConfigurationError: An argument cannot work.
            CompressionError: The package or the model failed.
        """
        documents = read_documents(context)
        segments = None
        if context_segs is not None:
            segments = segments_of(documents, context_segs, context_segs_rate, context_segs_compress, rate)
        labels = label_format(return_word_label, word_sep, label_sep)
        if self.use_llmlingua2:
            options = ClassifierOptions(
                rate, target_token, use_context_level_filter, use_token_level_filter, target_context, context_level_rate,
                context_level_target_token, tuple(force_context_ids or ()), token_to_word, tuple(force_tokens),
                force_reserve_digit, drop_consecutive, tuple(chunk_end_tokens),
            )  # fmt: skip
            return self._classify(documents, segments, options, labels)
        settings = {
            "instruction": instruction,
            "question": question,
            "rate": rate,
            "target_token": target_token,
            "iterative_size": iterative_size,
            "force_context_ids": force_context_ids,
            "force_context_number": force_context_number,
            "use_sentence_level_filter": use_sentence_level_filter,
            "use_context_level_filter": use_context_level_filter,
            "use_token_level_filter": use_token_level_filter,
            "keep_split": keep_split,
            "keep_first_sentence": keep_first_sentence,
            "keep_last_sentence": keep_last_sentence,
            "keep_sentence_number": keep_sentence_number,
            "high_priority_bonus": high_priority_bonus,
            "context_budget": context_budget,
            "token_budget_ratio": token_budget_ratio,
            "condition_in_question": condition_in_question,
            "reorder_context": reorder_context,
            "dynamic_context_compression_ratio": dynamic_context_compression_ratio,
            "condition_compare": condition_compare,
            "add_instruction": add_instruction,
            "rank_method": rank_method,
            "concate_question": concate_question,
            "strict_preserve_uncompressed": strict_preserve_uncompressed,
        }
        protection = with_forced(self._protection, force_tokens, force_reserve_digit)
        kept = self._thin(documents, segments, protection, settings)
        text = "\n\n".join(filter(str.strip, joined_documents(documents, kept)))
        parts = [instruction, text if text.strip() else "", question if concate_question else ""]
        before = "\n\n".join([instruction, *documents, question]).strip()
        report = self._report(before, "\n\n".join(filter(None, parts)))
        if labels is not None:
            stays = dict(zip(kept.used, kept.spans, strict=True))
            report["fn_labeled_original_prompt"] = labels(
                [pair for i, document in enumerate(documents) for pair in label_words(document, stays.get(i, ()))]
            )
        return report

    def compress_prompt_llmlingua2(
        self,
        context: Sequence[str] | str,
        rate: float = 0.5,
        target_token: int = -1,
        use_context_level_filter: bool = False,
        use_token_level_filter: bool = True,
        target_context: int = -1,
        context_level_rate: float = 1.0,
        context_level_target_token: int = -1,
        force_context_ids: Sequence[int] = (),
        return_word_label: bool = False,
        word_sep: str = "\t\t|\t\t",
        label_sep: str = " ",
        token_to_word: TokenToWord = "mean",  # noqa: S107 - no password
        force_tokens: Sequence[str] = (),
        force_reserve_digit: bool = False,
        drop_consecutive: bool = False,
        chunk_end_tokens: Sequence[str] = (".", "\n"),
    ) -> Report:
        """Compress documents with the token classifier of LLMLingua-2.

        Raises:
            ConfigurationError: An argument cannot work, or the model is not a token classifier.
            CompressionError: The model failed.
        """
        if not self.use_llmlingua2:
            raise ConfigurationError(
                "`compress_prompt_llmlingua2` needs a token classifier. Pass its folder and `use_llmlingua2=True`"
            )
        options = ClassifierOptions(
            rate, target_token, use_context_level_filter, use_token_level_filter, target_context, context_level_rate,
            context_level_target_token, tuple(force_context_ids or ()), token_to_word, tuple(force_tokens),
            force_reserve_digit, drop_consecutive, tuple(chunk_end_tokens),
        )  # fmt: skip
        labels = label_format(return_word_label, word_sep, label_sep)
        return self._classify(read_documents(context), None, options, labels)

    def structured_compress_prompt(
        self,
        context: Sequence[str] | str,
        instruction: str = "",
        question: str = "",
        rate: float = 0.5,
        target_token: float = -1,
        iterative_size: int = 200,
        force_context_ids: Sequence[int] | None = None,
        force_context_number: int | None = None,
        use_sentence_level_filter: bool = False,
        use_context_level_filter: bool = True,
        use_token_level_filter: bool = True,
        keep_split: bool = False,
        keep_first_sentence: int = 0,
        keep_last_sentence: int = 0,
        keep_sentence_number: int = 0,
        high_priority_bonus: int = 100,
        context_budget: str = "+100",
        token_budget_ratio: float = 1.4,
        condition_in_question: str = "none",
        reorder_context: str = "original",
        dynamic_context_compression_ratio: float = 0.0,
        condition_compare: bool = False,
        add_instruction: bool = False,
        rank_method: str = "llmlingua",
        concate_question: bool = True,
        strict_preserve_uncompressed: bool = True,
    ) -> Report:
        """Compress documents whose parts stand in tags: `<llmlingua, rate=0.3>...</llmlingua>`, `<llmlingua, compress=False>...`.

        Text outside of tags has the rate `rate`. LLMLingua-2 reads the tags too.

        Raises:
            ConfigurationError: A tag is not closed, or an argument cannot work.
            CompressionError: The package or the model failed.
        """
        check_rate(rate)
        documents, texts, rates, flags = self.segment_structured_context(context, rate)
        return self.compress_prompt(
            documents, instruction, question, rate, target_token, iterative_size, force_context_ids, force_context_number,
            use_sentence_level_filter, use_context_level_filter, use_token_level_filter, keep_split, keep_first_sentence,
            keep_last_sentence, keep_sentence_number, high_priority_bonus, context_budget, token_budget_ratio,
            condition_in_question, reorder_context, dynamic_context_compression_ratio, condition_compare, add_instruction,
            rank_method, concate_question,
            context_segs=texts, context_segs_rate=rates, context_segs_compress=flags,
            strict_preserve_uncompressed=strict_preserve_uncompressed,
        )  # fmt: skip

    def compress_json(
        self,
        json_data: Mapping[str, Any],
        json_config: Mapping[str, Mapping[str, Any]] | str | os.PathLike[str],
        instruction: str = "",
        question: str = "",
        rate: float = 0.5,
        target_token: float = -1,
        iterative_size: int = 200,
        use_sentence_level_filter: bool = False,
        use_keyvalue_level_filter: bool = False,
        use_token_level_filter: bool = True,
        keep_split: bool = False,
        keep_first_sentence: int = 0,
        keep_last_sentence: int = 0,
        keep_sentence_number: int = 0,
        high_priority_bonus: int = 100,
        context_budget: str = "+100",
        token_budget_ratio: float = 1.4,
        condition_in_question: str = "none",
        reorder_keyvalue: str = "original",
        condition_compare: bool = False,
        rank_method: str = "llmlingua",
    ) -> Report:
        """Compress the texts of a JSON object; `compressed_prompt` is a dictionary.

        Keys, numbers and nesting stay as they are. A field is dropped only if its `pair_remove` is True and
        `use_keyvalue_level_filter` is set.

        Raises:
            ConfigurationError: The data is not an object, or the configuration does not describe it.
            CompressionError: The package or the model failed.
        """
        fields = read_fields(json_data, json_config)
        segments = [field.segments for field in fields]
        documents = ["".join(segment.text for segment in own) for own in segments]
        if not fields:
            return self._report("{}", "{}") | {"compressed_prompt": {}}
        forced = [i for i, field in enumerate(fields) if not field.may_vanish]
        if self.use_llmlingua2:
            options = ClassifierOptions(
                rate, target_token, use_keyvalue_level_filter, use_token_level_filter, force_context_ids=forced
            )
            found = self._labelled_documents(documents, segments, options)
            kept = Kept(
                tuple(i for i, own in enumerate(found) if own.is_used), tuple(own.spans for own in found if own.is_used)
            )
        else:
            settings = {
                "instruction": instruction,
                "question": question,
                "rate": rate,
                "target_token": target_token,
                "iterative_size": iterative_size,
                "force_context_ids": forced,
                "use_sentence_level_filter": use_sentence_level_filter,
                "use_context_level_filter": use_keyvalue_level_filter,
                "use_token_level_filter": use_token_level_filter,
                "keep_split": keep_split,
                "keep_first_sentence": keep_first_sentence,
                "keep_last_sentence": keep_last_sentence,
                "keep_sentence_number": keep_sentence_number,
                "high_priority_bonus": high_priority_bonus,
                "context_budget": context_budget,
                "token_budget_ratio": token_budget_ratio,
                "condition_in_question": condition_in_question,
                "reorder_context": reorder_keyvalue,
                "condition_compare": condition_compare,
                "rank_method": rank_method,
                "concate_question": False,
                "strict_preserve_uncompressed": False,
            }
            kept = self._thin(documents, segments, self._protection, settings)
        stays = dict(zip(kept.used, kept.spans, strict=True))
        texts = [
            texts_of_segments(documents[i], segments[i], stays[i]) if i in stays else None for i in range(len(fields))
        ]
        result = join_fields(fields, texts)
        if reorder_keyvalue != "original":
            result = {fields[i].key: result[fields[i].key] for i in kept.used}
        return self._report(_dumps(json_data), _dumps(result)) | {"compressed_prompt": result}

    def recover(self, original_prompt: str, compressed_prompt: str, response: str) -> str:
        """Return `response` with the words that it takes from the compressed prompt as the original prompt has them."""
        return recover(self._tokenizer, original_prompt, compressed_prompt, response)

    def segment_structured_context(
        self, context: Sequence[str] | str, global_rate: float
    ) -> tuple[list[str], list[list[str]], list[list[float]], list[list[bool]]]:
        """Return the documents without tags, and the texts, rates and flags of their segments."""
        segments = [parse_tags(text, global_rate) for text in read_documents(context)]
        return (
            ["".join(segment.text for segment in own) for own in segments],
            [[segment.text for segment in own] for own in segments],
            [[segment.rate for segment in own] for own in segments],
            [[segment.compress for segment in own] for own in segments],
        )

    def get_token_length(self, text: str, add_special_tokens: bool = True, use_oai_tokenizer: bool = False) -> int:
        """Return the tokens of a text, as the model counts them or as the results are counted."""
        if use_oai_tokenizer:
            return self._count(text)
        return len(self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])

    # How it is done

    def _thin(
        self,
        documents: Sequence[str],
        segments: Sequence[Sequence[Segment]] | None,
        protection: Protection | None,
        settings: Mapping[str, Any],
    ) -> Kept:
        """Run LLMLingua or LongLLMLingua."""
        self._ranker.check(settings["rank_method"])
        check_settings(settings, len(documents))
        if segments is None and settings["target_token"] == -1 and settings["rate"] == 1:
            return Kept(tuple(range(len(documents))), tuple(((0, len(text)),) for text in documents))
        with self._lock:
            return self._engine.run(documents, segments, protection, **settings)

    def _labelled_documents(
        self, documents: Sequence[str], segments: Sequence[Sequence[Segment]] | None, options: ClassifierOptions
    ) -> list[LabelledDocument]:
        """Run LLMLingua-2."""
        check_target(options.rate, options.target_token)
        check_ids(options.force_context_ids, len(documents))
        check_choice(get_args(TokenToWord), token_to_word=options.token_to_word)
        if isinstance(options.force_tokens, str) or not all(options.force_tokens):
            raise ConfigurationError(
                f"`force_tokens` must be a list of non-empty strings, got {options.force_tokens!r}"
            )
        if len(options.force_tokens) > self._max_force_tokens:
            raise ConfigurationError(
                f"`force_tokens` may have {self._max_force_tokens} words, got {len(options.force_tokens)}. Pass"
                " llmlingua2_config={'max_force_token': ...} for more"
            )
        with self._lock, package_errors():
            return classify(self._classifier, documents, segments, options, self._protection, self._count)

    def _classify(
        self,
        documents: Sequence[str],
        segments: Sequence[Sequence[Segment]] | None,
        options: ClassifierOptions,
        labels: Callable[[Sequence[tuple[str, bool]]], str] | None,
    ) -> Report:
        found = self._labelled_documents(documents, segments, options)
        texts = [
            join_spans(document, own.spans)[0] for document, own in zip(documents, found, strict=True) if own.is_used
        ]
        before = sum(map(self._count, documents))
        report = self._figures(before, sum(map(self._count, texts)), "\n\n".join(texts))
        report["compressed_prompt_list"] = texts
        if labels is not None:
            report["fn_labeled_original_prompt"] = labels(
                [pair for own in found for pair in zip(own.words, own.labels, strict=True)]
            )
        return report

    def _report(self, before: str, after: str) -> Report:
        return self._figures(self._count(before), self._count(after) if after else 0, after)

    def _figures(self, before: int, after: int, text: str) -> Report:
        """Return the dictionary of the package."""
        ratio = before / after if after else 1.0
        return {
            "compressed_prompt": text,
            "origin_tokens": before,
            "compressed_tokens": after,
            "ratio": f"{ratio:.1f}x",
            "rate": f"{100 / ratio if ratio else 0:.1f}%",
            "saving": f", Saving ${(before - after) * _DOLLARS:.1f} in GPT-4.",
        }


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
