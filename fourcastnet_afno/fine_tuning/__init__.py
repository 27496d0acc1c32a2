"""Training that starts from a checkpoint: weights by name, end layers by channel, adapters."""
