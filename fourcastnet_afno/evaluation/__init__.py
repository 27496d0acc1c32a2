"""Scores of any forecast store against any truth; imports no torch."""
