"""Networks side by side on partial differential equations, see ``benchmarks.benchmark_pde``."""
