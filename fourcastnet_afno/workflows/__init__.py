"""The workflows behind the verbs: each takes an experiment and its run folder."""

from rich.console import Console

console = Console()
"""Where the workflows print."""
