"""A trained network at work: labels of pictures, exported programs."""
