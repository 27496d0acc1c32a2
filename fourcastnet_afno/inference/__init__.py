"""Rollouts, ensembles and the forecast store."""
