"""Measurements of the project, and the baselines that it is compared with.

Every module ``benchmark_*`` and ``scaling_model`` is a command, such as
``python -m benchmarks.benchmark_loader --help``. They share the other modules: ``timing`` and
``memory`` measure, ``stores`` writes data, ``fourcastnet`` and ``unet`` are baselines, and ``pde``
holds the problems, networks and tables of ``benchmark_pde``.
"""
