"""Tables, plots, maps and the report."""
