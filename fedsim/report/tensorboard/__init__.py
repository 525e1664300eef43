"""The TensorBoard of a run: curves, pictures, tables."""
