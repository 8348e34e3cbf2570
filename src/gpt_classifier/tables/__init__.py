"""Rows of a file, for training and for prediction: reading them, and which of them can be used."""
