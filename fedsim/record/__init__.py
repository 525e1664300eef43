"""The files of a run that programs read: settings, records, checkpoints, weights."""
