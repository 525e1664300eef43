"""The machine that fedsim runs on: console, files, cores and memory."""
