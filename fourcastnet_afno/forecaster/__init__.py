"""The network in physical units, and its checkpoints."""
