"""Answers from your own documents with small local models: fewer tokens, seconds and cents, with the receipt."""

__version__ = "0.1.0"
