"""How results are shown: tables on a terminal, progress, figures as PNG, one HTML page; nothing is computed here."""
