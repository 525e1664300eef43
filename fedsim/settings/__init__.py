"""Settings: what a user can ask for."""
