"""The command line: `main.py` is `mcl`, `app.py` what all commands share; nothing else prints or exits."""
