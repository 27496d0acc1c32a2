"""Forecasts as fast as this machine makes them."""
