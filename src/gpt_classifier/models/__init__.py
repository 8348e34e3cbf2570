"""Token ids in, logits out: plain torch."""
