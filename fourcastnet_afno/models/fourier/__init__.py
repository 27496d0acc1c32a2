"""Fourier transforms, their modes, and the mixing of modes."""
