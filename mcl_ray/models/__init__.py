"""Networks, one module per architecture, and the heads that turn their features into embeddings.

A network runs on one device, reads no setting and knows of no peer. Cohorts of networks are `mcl_ray.cohort`.
"""
