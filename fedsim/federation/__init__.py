"""The federation: the round, and all that takes part in it."""
