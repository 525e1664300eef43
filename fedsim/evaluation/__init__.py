"""Evaluation: models scored on scenes."""
