"""A fine-tuned model and a linear model of n-grams as one classifier."""
