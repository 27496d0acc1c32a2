"""Progress of a training run in the terminal, in logs and in loggers."""
