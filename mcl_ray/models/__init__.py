"""Networks, one module per architecture, and the heads that map their features to embeddings.

A network runs on one device and is independent of settings and of other peers. Cohorts are in `mcl_ray.cohort`.
"""
