"""A trained network at work: labelling pictures, exported to other programs."""
