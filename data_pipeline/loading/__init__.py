"""Windows of the training store, and batches of them."""
