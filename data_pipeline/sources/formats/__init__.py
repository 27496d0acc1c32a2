"""Formats that need more than opening: no coordinates, no times, or no chunks."""
