"""The machine below: console, files, cores and memory."""
