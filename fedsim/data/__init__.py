"""Scenes: data sets, the cache that memory-maps them, partitions, augmentation, perturbations."""
