"""Writes random texts under a grammar, and tests whether a grammar allows a text."""

import numpy as np

from leanrag import ConfigurationError
from leanrag.llama.grammar.sampler import Grammar
from leanrag.llama.sampling import Sampler, SamplingOptions


def ids(vocabulary, text):
    return vocabulary.tokenize(text, parse_special=False)


def ends(vocabulary):
    return {token for token in vocabulary.control_tokens if vocabulary.is_end(token)}


def write(vocabulary, gbnf, seed, limit=3000):
    """Return a random text under a grammar; what closes becomes ever more probable."""
    random = np.random.default_rng(seed)
    closing = np.zeros(vocabulary.n_tokens, np.float32)
    for character, weight in {'"': 5, "}": 4, "]": 4, ",": -1, "[": -2, "{": -2, "\\": -1}.items():
        closing[ids(vocabulary, character)] = weight
    closing[list(ends(vocabulary))] = 6
    grammar, sampler = Grammar(vocabulary, gbnf), Sampler(SamplingOptions(temperature=1.0, seed=seed))
    written = b""
    for step in range(limit):
        logits = random.normal(0, 3, vocabulary.n_tokens).astype(np.float32) + closing * step / 5
        token = grammar.pick(logits, sampler)
        grammar.accept(token)
        if vocabulary.is_end(token):
            grammar.close()
            return written.decode()
        written += vocabulary.piece(token)
    raise AssertionError(f"no end: {written!r}")


def spells(vocabulary, gbnf, text):
    """Return whether `text` is a whole text of the grammar."""
    grammar = Grammar(vocabulary, gbnf)
    try:
        for token in ids(vocabulary, text):
            grammar.accept(token)
        return bool(grammar._allowed()[list(ends(vocabulary))].all())
    except ConfigurationError:
        return False
    finally:
        grammar.close()
