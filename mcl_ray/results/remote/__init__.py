"""Results in a remote store: `pull.py` updates this machine's replica, `push.py` uploads what a writer writes."""
