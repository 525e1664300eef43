"""Ranks: their devices, how they are started and meet, and what they do together."""
