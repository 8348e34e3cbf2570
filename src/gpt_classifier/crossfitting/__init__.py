"""Every message predicted by a model that was not trained on it, and what follows from that."""
