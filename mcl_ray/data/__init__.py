"""Where training images come from, how they come together in batches, and how they are augmented.

`source.load_dataset` is the way in. Everything but `augment` is free of torch.
"""
