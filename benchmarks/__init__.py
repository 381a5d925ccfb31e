"""Measurements. Each module runs as `python -m benchmarks.NAME --data DIR --json FILE`."""
