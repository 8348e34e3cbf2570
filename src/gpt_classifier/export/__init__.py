"""Classifiers as files that other programs open."""
