"""Analyses that weather services publish: only the messages that a forecaster needs travel."""
