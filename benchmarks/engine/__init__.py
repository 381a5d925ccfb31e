"""The benchmark `engine`; run it with `python -m benchmarks.engine`."""
