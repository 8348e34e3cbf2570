"""A checkpoint in, labels with probabilities out."""
