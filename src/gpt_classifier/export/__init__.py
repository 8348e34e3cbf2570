"""A trained classifier as what other programs open."""
