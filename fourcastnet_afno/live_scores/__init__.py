"""Scores of forecasts while they are made: evaluation's own sums, of fields that no disk sees."""
