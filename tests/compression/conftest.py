"""Tiny scorers with random weights, as folders of transformers: a causal language model and two token classifiers."""

import pytest

SENTENCES = [
    "The tower was finished in 1889 and is 330 metres tall.",
    "Its maker, Gustave Eiffel, kept a flat on the third floor.",
    "Visitors must not carry glass; see https://example.org/rules for more.",
    "The river bends around the old quarter, where booksellers have their stalls.",
    'Nobody has counted the pigeons, but "too many" is the usual answer.',
    "In spring the gardens open at 8:30 and close when it is dark.",
    "Trains to the coast leave from the western station every two hours.",
    "A museum of clocks stands in a street that has no name on any map.",
    "The baker on the corner sells bread, cakes and, on Fridays, fish pies.",
    "Rain falls on 111 days of the year, most of them in May.",
]
DOCUMENTS = [" ".join(SENTENCES[i : i + 4]) for i in (0, 3, 6)]
QUESTION = "How tall is the tower?"


@pytest.fixture(scope="session")
def tokenizer_of_bytes():
    """Byte-level BPE with merges of common words, and two control tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


@pytest.fixture(scope="session")
def causal_folder(tmp_path_factory, tokenizer_of_bytes):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer_of_bytes), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=1024, bos_token_id=0, eos_token_id=1,
        initializer_range=0.5,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("causal")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer_of_bytes.save_pretrained(folder)
    return folder


def classifier(folder, kind):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import (
        BertConfig,
        BertForTokenClassification,
        PreTrainedTokenizerFast,
        XLMRobertaConfig,
        XLMRobertaForTokenClassification,
    )

    if kind == "bert":
        names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.decoder = decoders.WordPiece()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=list(names.values()), show_progress=False)
        config_class, model_class, positions = BertConfig, BertForTokenClassification, 512
    else:
        names = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.decoder = decoders.Metaspace()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=list(names.values()), unk_token="<unk>", show_progress=False
        )
        config_class, model_class, positions = XLMRobertaConfig, XLMRobertaForTokenClassification, 514
    tokenizer.train_from_iterator(SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    import torch

    torch.manual_seed(0)
    config = config_class(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=positions, num_labels=2, pad_token_id=fast.pad_token_id, initializer_range=0.5,
    )  # fmt: skip
    model_class(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    return classifier(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory):
    return classifier(tmp_path_factory.mktemp("roberta"), "xlm-roberta")
