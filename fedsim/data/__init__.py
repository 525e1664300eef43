"""Scenes: data sets, the cache that memory-maps them, partitions, augmentation, perturbations."""

AUGMENTATIONS = {"none": "Unchanged", "flip": "Flip", "standard": "Standard", "perturb": "Perturb"}
"""Augmentations by name: the classes of fedsim/data/augment.py, which is imported when one is made."""
