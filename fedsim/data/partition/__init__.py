"""Partitions: which car has which scenes."""

SPLIT_FILE = "partition.json"  # the name of a split file in the directory of a run or an inspection
