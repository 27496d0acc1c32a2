"""Grids, their areas, coarsening and spherical harmonics."""
