"""Formats that need more than opening: files without coordinates, trajectories, files without chunks."""
