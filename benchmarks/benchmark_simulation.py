"""Simulated years per minute of the planet, and the share of matrix products in its time.

    python -m benchmarks.benchmark_simulation --num_trajectories 8

Nearly all floating-point operations are in matrix products (spherical-harmonic transforms). Their
time is that of as many operations of large float32 products in the same process.
"""

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.timing import count_operations, describe, large_product, median_seconds, rate_of
from data_pipeline.simulation.planet import Stirring, build_planet, jet_speed
from data_pipeline.simulation.shallow_water import zonal_jet

_YEAR_SECONDS = 360 * 86400


def benchmark(
    num_trajectories: int = 8, num_latitudes: int = 32, num_longitudes: int = 64, repeats: int = 7
) -> None:
    """Measure and print.

    Args:
        num_trajectories: Trajectories that are simulated together.
        num_latitudes: Rows of the grid.
        num_longitudes: Columns of the grid.
        repeats: Timed blocks of 100 steps; the median counts.
    """
    model = build_planet(num_latitudes, num_longitudes)
    stirring = Stirring(model, [[0, index] for index in range(num_trajectories)])
    state = model.balanced(zonal_jet(model, jet_speed) + stirring.initial_eddies())

    def simulate(steps: int = 100) -> None:
        current = state
        for _ in range(steps):
            current = model.step(current, stirring.next())

    operations = count_operations(lambda: simulate(1))
    times = median_seconds({"steps": simulate, "product": large_product()}, repeats)
    seconds, rate = times["steps"] / 100, rate_of(times["product"])
    years = num_trajectories * model.timestep / _YEAR_SECONDS / seconds * 60
    share = operations / rate / seconds
    Console(soft_wrap=True).print(
        f"{describe()}: {num_latitudes} x {num_longitudes}, "
        f"{num_trajectories} trajectories, steps of {model.timestep:g} s: "
        f"{years:.1f} trajectory-years/min (years of 360 days), {1e3 * seconds:.2f} ms/step, "
        f"{100 * share:.0f} % of the time is the matrix products' at {rate / 1e9:.0f} GFLOP/s"
    )


if __name__ == "__main__":
    auto_cli(benchmark)
