"""The service: a FastAPI application that takes jobs, records them in a database and runs them through Ray's Jobs API.

Nothing here imports torch or ray. Start with `state.py` (what becomes of a job) and `reconciler.py` (who applies it).
"""
