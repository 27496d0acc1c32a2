"""Forecasts that are committed to repositories with versions."""
