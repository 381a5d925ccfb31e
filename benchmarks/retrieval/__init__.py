"""The benchmark `retrieval`; run it with `python -m benchmarks.retrieval`."""
