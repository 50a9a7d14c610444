"""Campaigns: processes are killed at random moments and files are damaged, while a judge keeps a log of its own.

    python -m benchmarks.campaign service [--kills 1000] [--seed S] [--database sqlite]
    python -m benchmarks.campaign sweeps [--kills 1000] [--seed S] [--kind asha]
    python -m benchmarks.campaign runs [--kills 1000] [--seed S]
    python -m benchmarks.campaign files [--mutations 100] [--seed S] [--kind run.parquet]

The lines of several invocations add up: they are appended to a file in `benchmarks/results`.

One module for each subject; `findings` and `plan` are what subjects share.
"""
