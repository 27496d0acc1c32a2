"""Processes that train together, and rows that they share."""
