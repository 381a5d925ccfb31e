"""LLMLingua and LongLLMLingua, through the package `llmlingua` (extra `lingua`)."""
