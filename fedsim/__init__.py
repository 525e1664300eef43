"""fedsim: one segmentation network, trained by many cars that never share their pictures."""

__version__ = "0.1.0"
