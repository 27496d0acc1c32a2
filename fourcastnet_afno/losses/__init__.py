"""Losses of predicted states."""
