"""Which runs a comparison is made of, and playing them, each in a process of its own.

FOLDER/
  comparison.toml      what all of its runs have in common
  tuning/ALGO-lrX      runs that learning rates are chosen by
  runs/ALGO-SEED       the runs that are compared; beside each, in ALGO-SEED.log, what it has said
  runs/ALGO-lrX-SEED   the same with a learning rate that was chosen: with another choice they are others
"""
