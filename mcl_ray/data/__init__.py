"""Data sets: loading, validation splits, sampling into batches, and augmentation.

Start with `source.load_dataset`. Only `augment` and `views` import torch.
"""
