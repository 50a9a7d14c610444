"""The Ray that trials and groups run on: joining it, its token, shared folders and signals."""
