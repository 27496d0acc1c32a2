"""From a source to the training store, block by block."""
