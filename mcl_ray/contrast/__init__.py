"""Sources of contrast sets: the batch, a memory bank, or a queue, one module each."""
