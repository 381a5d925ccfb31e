"""Which model answers, and how sure it is."""
