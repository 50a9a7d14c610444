"""Benchmarks: each script prints JSON lines with hardware, versions, commit and n."""
