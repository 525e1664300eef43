"""Reports: what a run leaves for people to read."""
