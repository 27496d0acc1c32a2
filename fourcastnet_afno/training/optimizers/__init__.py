"""Optimizers: which weights they update, and how."""
