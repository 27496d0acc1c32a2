"""Checks of data before a run: axes, times, values, physics and stores."""
