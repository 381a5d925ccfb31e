"""Memory, layers on GPUs, and how attention is computed there."""
