"""Measurements: each script writes JSON lines with hardware, versions, commit and n."""
