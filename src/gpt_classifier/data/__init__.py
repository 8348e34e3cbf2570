"""Messages in, padded token batches out."""
