"""Trained networks on their way out: what others load without this project.

What comes in from elsewhere is `mcl_ray.interop`.
"""
