"""LLMLingua and LongLLMLingua, through the package `llmlingua` (extra `lingua`)."""

from leanrag.compression.lingua.compressor import LLMLinguaCompressor as LLMLinguaCompressor
from leanrag.compression.lingua.loading import dequantize as dequantize
