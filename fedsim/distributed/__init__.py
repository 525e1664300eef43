"""Ranks: collectives, devices, how ranks meet, torchrun."""
