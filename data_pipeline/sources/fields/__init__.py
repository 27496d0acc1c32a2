"""Identity of a field: name, level or height, statistic over time, and entries of axes."""
