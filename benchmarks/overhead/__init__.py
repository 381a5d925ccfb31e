"""The benchmark `overhead`; run it with `python -m benchmarks.overhead`."""
