"""GGUF files: reading headers, converting, quantizing."""
