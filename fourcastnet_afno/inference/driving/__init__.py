"""Driving states of limited areas: from forecasts of a larger area, or from analyses."""
