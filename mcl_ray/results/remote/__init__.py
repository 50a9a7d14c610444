"""Results in a remote store: `pull.py` brings this machine's replica up to date, `push.py` uploads what a writer writes."""
