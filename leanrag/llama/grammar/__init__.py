"""Restricts answers to a JSON Schema or a grammar.

Begin with `make_grammar`. `schema` turns a JSON Schema into GBNF, `gbnf` checks GBNF and limits its work, `sampler` draws only
tokens that the grammar allows. `schema` uses `merging` (`allOf`), `ranges` (bounds of numbers), `formats` and `patterns`, whose
states are made by `automata`; `keywords` has what is supported.
"""

from leanrag.llama.grammar.sampler import Grammar as Grammar
from leanrag.llama.grammar.sampler import make_grammar as make_grammar
