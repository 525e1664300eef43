"""Several runs side by side: what `fedsim compare` plays, reads and reports.

FOLDER/
  comparison.toml      the settings that all of its runs have in common
  tuning/ALGO-lrX      runs for choosing a learning rate
  runs/ALGO-SEED       the runs to compare; what each prints goes to ALGO-SEED.log beside it
  runs/ALGO-lrX-SEED   the same after tuning; the name holds the chosen learning rate, so that another choice makes
                       other runs and never overwrites these
"""
