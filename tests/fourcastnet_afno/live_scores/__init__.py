"""Tests of scores while forecasting."""
