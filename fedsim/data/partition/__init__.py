"""Partitions: which car has which scenes."""

PARTITIONS = ("drive", "iid", "dirichlet", "classes", "quantity", "condition")
DEFAULT_ALPHA = {"dirichlet": 0.5, "classes": 2.0, "quantity": 1.0}  # of the partitions that have a skew to choose
SPLIT_FILE = "partition.json"  # the name of a split file in the directory of a run or an inspection
