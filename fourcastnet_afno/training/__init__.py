"""The training loop and everything that a run needs in order to resume."""
