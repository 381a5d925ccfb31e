"""The benchmark `routing`; run it with `python -m benchmarks.routing`."""
