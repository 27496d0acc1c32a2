"""Statistics of pairs of forecasts and truth."""
