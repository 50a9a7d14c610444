"""Methods: from a batch to its losses, one module per training regime."""
