"""The benchmark `embedding`; run it with `python -m benchmarks.embedding`."""
