"""Files to documents, and documents to chunks."""
