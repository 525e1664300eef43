"""A trained network at work: it labels pictures, and is exported to other programs."""
