"""Scenes: data sets, their cache, partitions, augmentation, perturbations."""

AUGMENTATIONS = {"none": "Unchanged", "flip": "Flip", "standard": "Flip", "perturb": "Perturb"}
"""Augmentations by name: the classes of fedsim/data/augment.py, which is imported when one is made.

standard has a frame too.
"""
