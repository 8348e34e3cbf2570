"""Texts are labelled while a classifier learns: which are asked next, every answer on disk, and what was reached."""
