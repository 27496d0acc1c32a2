"""Problems, networks, training and tables of ``benchmarks.benchmark_pde``."""
