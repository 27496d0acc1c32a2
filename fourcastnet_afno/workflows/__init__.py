"""The workflows behind the verbs: each takes an experiment and its run folder."""

from data_pipeline.terminal import new_console

console = new_console()
"""Where the workflows print."""
