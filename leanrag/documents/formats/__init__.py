"""Readers, a file a format: the bytes of a file to a `Document`. `leanrag.documents.loading` chooses among them."""
