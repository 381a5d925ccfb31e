"""The class `PromptCompressor` of the package llmlingua, on local models and current transformers."""

from leanrag.compression.compat.prompt_compressor import PromptCompressor as PromptCompressor
