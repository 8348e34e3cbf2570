"""What only the book asks: its training step by step, its padding, the baseline without fine-tuning."""
