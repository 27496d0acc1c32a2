"""Checks of data, store, machine and speed before a run."""
