"""Activations of frozen blocks: computed once for each distinct text, kept in memory or on disk."""
