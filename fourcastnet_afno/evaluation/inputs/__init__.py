"""Forecasts, truth, climatologies and baselines, opened and aligned."""
