import resource
from importlib.metadata import version

import torch

from fourcastnet_afno.provenance import peak_memory_gib, versions


def test_versions_are_those_of_the_packages() -> None:
    found = versions()
    assert found["torch"] == version("torch")
    assert {"python", "fourcastnet-afno", "numpy", "xarray", "zarr"} <= set(found)


def test_peak_memory_never_falls_and_counts_what_is_touched() -> None:
    before = peak_memory_gib()
    touched = torch.ones(2**26)  # 0.25 GiB
    assert peak_memory_gib(torch.device("cpu")) >= before
    assert peak_memory_gib() * 2**20 >= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 0.99
    assert touched.sum() == 2**26
