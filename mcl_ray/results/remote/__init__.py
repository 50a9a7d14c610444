"""Synchronisation of this machine's replica of a results folder with a remote store: `pull` and `push`."""
