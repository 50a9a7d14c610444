"""Campaigns: processes are killed at random moments while a judge keeps a log of its own.

    python -m benchmarks.campaign service [--kills 1000] [--seed S] [--database sqlite]
    python -m benchmarks.campaign sweeps [--kills 1000] [--seed S] [--kind asha]

One module for each subject; `findings` and `plan` are what subjects share.
"""
