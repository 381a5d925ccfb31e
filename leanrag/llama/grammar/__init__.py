"""Answers that keep to a JSON Schema or a grammar.

`make_grammar` is the way in: `schema` turns a JSON Schema into GBNF, `gbnf` reads GBNF and bounds the work that it asks for,
`sampler` draws only tokens that the grammar allows.
"""

from leanrag.llama.grammar.sampler import Grammar as Grammar
from leanrag.llama.grammar.sampler import make_grammar as make_grammar
