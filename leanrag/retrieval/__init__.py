"""Chunks to hits: store, embedders, indexes, retrievers."""
