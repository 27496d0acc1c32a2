"""Networks side by side on partial differential equations, see ``scripts.benchmark_pde``."""
