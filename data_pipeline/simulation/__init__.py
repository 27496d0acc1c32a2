"""Equations, their solvers and the simulated planet."""
