"""What only the book asks: its training loop, its table of experiments, the padding study, the zero-shot baseline."""
