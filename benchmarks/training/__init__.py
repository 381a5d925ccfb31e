"""The benchmark `training`; run it with `python -m benchmarks.training`. `reader` makes the reader that ships."""
