"""Export of trained networks, as files that others load without this project; `bundle.export_run` writes them.

Import of weights from elsewhere is in `mcl_ray.interop`.
"""
