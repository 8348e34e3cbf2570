"""The soft labels of fine-tuned classifiers on texts without labels, and a student that learns them."""
