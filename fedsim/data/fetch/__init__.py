"""Public data sets: download, check and unpack them."""
