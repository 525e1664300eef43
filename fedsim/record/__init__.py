"""Records: what a run leaves for programs to read."""
