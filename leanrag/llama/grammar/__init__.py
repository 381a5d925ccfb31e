"""Grammars and JSON Schemas that an answer must follow."""
