"""The benchmark `evidence`; run it with `python -m benchmarks.evidence`."""
