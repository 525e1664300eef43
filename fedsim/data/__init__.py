"""Scenes: data sets, their cache, partitions, augmentation, perturbations."""

AUGMENTATIONS = {"none": "Unchanged", "flip": "Flip", "standard": "Standard", "perturb": "Perturb"}
"""Augmentations by name: the classes of fedsim/data/augment.py, which is imported when one is made."""
