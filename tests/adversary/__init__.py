"""Inputs and moments that an adversary would choose, drawn from seeds that failures name."""
