"""Partitions: which car has which scenes."""

PARTITIONS = ("drive", "iid", "dirichlet", "classes", "quantity", "condition")
DEFAULT_ALPHA = {"dirichlet": 0.5, "classes": 2.0, "quantity": 1.0}  # the partitions that read --alpha
SPLIT_FILE = "partition.json"  # in the directory of a run or an inspection
