"""The benchmark `reading`; run it with `python -m benchmarks.reading`."""
