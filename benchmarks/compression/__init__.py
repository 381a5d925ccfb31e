"""The benchmark `compression`; run it with `python -m benchmarks.compression`."""
