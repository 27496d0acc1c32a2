"""Metrics, their intervals, tables and conventions."""
