"""Makes the artifacts of ``tests/compatibility/artifacts`` by the verbs of commit 244d819.

They were made once and are kept; make them again only to add to them:

    git worktree add /tmp/before 244d819
    OMP_NUM_THREADS=1 python tests/compatibility/make_artifacts.py /tmp/before

in an environment with the project's requirements, where each command takes some seconds. Every verb
runs in a process of its own with PYTHONPATH set to that checkout, in a folder of its own and with
relative paths, so that no artifact knows where it was made. Archives have sorted names and no times
of day; what a run measures (seconds, memory) is another each time, all else is the same again on
the same processor.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.compatibility.machine import machine

COMMIT = "244d819"
HERE = Path(__file__).parent
ARTIFACTS = HERE / "artifacts"
INTERRUPTED, KILLED = 130, 9

PLANET = """\
# A planet and a network as small as they can be, with everything that needs random numbers.
data:
  simulation:
    num_trajectories: 4
    days: 6
    spinup_days: 3
    num_latitudes: 16
    num_longitudes: 32
    timestep_hours: 6
    seed: 5
    start: "2001-01-01"
  prognostic: [u_component_of_wind, geopotential]
  diagnostic: [relative_vorticity]
  static: [geopotential_at_surface]
  forcings: [day_of_year_sin, toa_insolation]
  grid: {num_latitudes: 8, num_longitudes: 16, poles: false}
  timestep_hours: 6
  allow_gaps: true
  climatology_harmonics: 0
  train: {start: "2001-01-01", end: "2002-12-31"}
  validation: {start: "2003-01-01", end: "2003-12-31"}
  test: {start: "2004-01-01", end: "2004-12-31"}
model:
  num_history: 2
  prediction: residual
  network:
    patch_size: [2, 2]
    embed_dim: 8
    depth: 2
    num_blocks: 2
    mlp_ratio: 2.0
    drop_rate: 0.1
    drop_path_rate: 0.1
    pole: double_fourier_sphere
    vector_channels: 4
training:
  stages:
    - {epochs: 3, num_steps: 1, learning_rate: 0.004}
    - {epochs: 1, num_steps: 2, learning_rate: 0.002}
  batch_size: 8
  ema_decay: 0.9
  input_noise: 0.01
  seed: 3
  device: cpu
diagnostic:
  network: {patch_size: [2, 2], embed_dim: 8, depth: 1, num_blocks: 2, mlp_ratio: 2.0}
forecast:
  num_steps: 6
  init_interval_hours: 12
"""

FISHER = """\
# The equation of one's own of docs/equations.md, stored in 16 bits and compressed.
data:
  pde:
    equation: fisher.py:Fisher
    parameters: {diffusivity: 0.001}
    resolution: [16, 16]
    num_steps: 4
    timestep: 0.25
    substeps: 4
    trajectories: {train: 3, validation: 1, test: 1}
  prognostic: [u]
  storage: {dtype: float16, compression: zstd}
  timestep_hours: 1
  allow_gaps: true
  climatology_harmonics: 0
  train: {start: "2001-01-01", end: "2100-12-31"}
  validation: {start: "2101-01-01", end: "2200-12-31"}
  test: {start: "2201-01-01", end: "2261-12-31"}
"""

STORE = [
    "--truth=planet/data.zarr",
    "--climatology=planet/data.zarr",
    "--training=planet/data.zarr",
]
COMMANDS = {
    "prepare": ["prepare", "--config=planet.yaml", "--output=planet"],
    "train": ["train", "--config=planet.yaml", "--output=planet"],
    "train, interrupted": ["train", "--config=planet.yaml", "--output=stopped"],
    "forecast": ["forecast", "--output=planet"],
    "evaluate": [
        "evaluate", "--forecast=model=planet/forecast.zarr", *STORE,
        "--evaluation.quantiles=[0.9]", "--output=scores.nc",
    ],
    "train-diagnostic": [
        "train-diagnostic", "--config=planet.yaml", "--output=head",
        "--checkpoint=planet/checkpoints/best.safetensors", "--data.store=planet/data.zarr",
        "--training.stages=[{epochs: 2, num_steps: 1, learning_rate: 0.004}]",
    ],
    "forecast with a head": [
        "forecast", "--checkpoint=planet/checkpoints/best.safetensors",
        "--diagnostic=head/checkpoints/best.safetensors", "--source=planet/data.zarr",
        "--init-times=2004-01-02", "--steps=3", "--output=vorticity.zarr",
    ],
    "ensemble forecast": [
        "forecast", "--checkpoint=planet/checkpoints/best.safetensors", "--source=planet/data.zarr",
        "--init-times=2004-01-02,2004-01-03", "--steps=60", "--members=2",
        "--forecast.ensemble.perturbation=gaussian", "--forecast.batch_size=2",
        "--forecast.store.chunks=lead_time", "--forecast.store.variables=[geopotential]",
        "--forecast.stability.diagnostics=false", "--output=ensemble.zarr",
    ],
    "prepare an equation of one's own": ["prepare", "--config=fisher.yaml", "--output=fisher"],
}  # fmt: skip

# In the middle of the second epoch, and after the restart file of the second unit (of 60 parts).
STOP_AFTER_STEP, KILL_AFTER_PART, INTERRUPT_AT_TASK = 10, 60 + 55, 40

# A Ctrl-C at a step of the training, and a power cut after a part of a forecast. Internals of the
# code of before are meant here: only that is ever run with them.
TRAIN_INTERRUPTED = f"""
import os, signal, sys
from fourcastnet_afno import cli, experiment
train = experiment.train
def stop(step, values):
    if step == {STOP_AFTER_STEP}:
        os.kill(os.getpid(), signal.SIGINT)
experiment.train = lambda config, output: train(config, output, [stop])
sys.exit(cli.main(sys.argv[1:]))
"""
FORECAST_KILLED = f"""
import os, sys
from fourcastnet_afno import cli
from fourcastnet_afno.autoregression.work import Work
record, parts = Work.record, []
def count(*words):
    record(*words)
    parts.append(words)
    if len(parts) == {KILL_AFTER_PART}:
        os._exit({KILLED})
Work.record = count
sys.exit(cli.main(sys.argv[1:]))
"""


def config_words(folder: str = "configs") -> dict[str, list[str]]:
    """Words of a verb that take every YAML file of before, by the names of the files.

    Sets of channels and recipes go on top of an experiment, and stand for it too.
    """
    on_top = {
        "arco_era5": ["channels/fourcastnet_26"],
        "weatherbench2_240x121": ["channels/fourcastnet_34"],
        "weatherbench2_64x32": ["channels/minimal"],
        "weatherbench2_1440x721": ["channels/fourcastnet_20", "recipes/fourcastnet"],
        "ncep_slp_daily": ["channels/weatherbench_69", "recipes/fourcastnet_precipitation"],
    }
    alone = ["quickstart", "pde_burgers", "pde_darcy", "pde_gray_scott", "pde_kolmogorov"]
    alone += ["pde_kuramoto_sivashinsky", "pde_navier_stokes", "pde_shallow_water"]
    together = [[name] for name in alone] + [[name, *more] for name, more in on_top.items()]
    return {
        "+".join(name.replace("/", "_") for name in names): [
            "train",
            *(f"--config={folder}/{name}.yaml" for name in names),
        ]
        for names in together
    }


class Before:
    """The code of a checkout, and a folder in which it works.

    Args:
        checkout: Of the commit before.
        folder: An empty folder.
    """

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout, self.folder = checkout, folder

    def run(self, *words: str, code: int = 0) -> None:
        """Run Python with these words; any other exit code is an error."""
        environment = {**os.environ, "PYTHONPATH": str(self.checkout), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *words], cwd=self.folder, env=environment)
        if done.returncode != code:
            raise RuntimeError(f"{words} ended with {done.returncode}, expected {code}")

    def verb(self, name: str) -> None:
        """Run one of ``COMMANDS``."""
        self.run("-m", "fourcastnet_afno", *COMMANDS[name])


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of the files of a folder."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def pack(archive: Path, folder: Path, names: Sequence[str]) -> None:
    """Zip files and folders, in order and without their times."""
    files = [
        file
        for name in names
        for file in ([folder / name] if (folder / name).is_file() else (folder / name).rglob("*"))
        if file.is_file() and not file.name.startswith("lock")
    ]
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(files):
            info = zipfile.ZipInfo(str(file.relative_to(folder)))  # of 1980-01-01
            packed.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def make(before: Before) -> None:
    """Make all artifacts anew."""
    folder = before.folder
    shutil.rmtree(ARTIFACTS, ignore_errors=True)
    shutil.copytree(before.checkout / "configs", ARTIFACTS / "configs")
    shutil.copytree(before.checkout / "configs", folder / "configs")
    text = (before.checkout / "docs" / "equations.md").read_text()
    (folder / "fisher.py").write_text(text.partition("```python\n")[2].partition("```")[0])
    for name, content in (("planet.yaml", PLANET), ("fisher.yaml", FISHER)):
        (folder / name).write_text(content)
        (ARTIFACTS / name).write_text(content)
    _run_verbs(before)
    run_names = ["config.yaml", "history.json", "logs", "checkpoints"]
    pack(ARTIFACTS / "planet_store.zip", folder, ["planet/data.zarr"])
    pack(ARTIFACTS / "planet_run.zip", folder, [f"planet/{name}" for name in run_names])
    pack(ARTIFACTS / "planet_forecast.zip", folder, ["planet/forecast.zarr"])
    pack(ARTIFACTS / "stopped_run.zip", folder, [f"stopped/{name}" for name in run_names])
    pack(ARTIFACTS / "head_run.zip", folder, [f"head/{name}" for name in run_names])
    pack(ARTIFACTS / "fisher.zip", folder, ["fisher", "fisher.py", "fisher.yaml"])
    pack(ARTIFACTS / "ensemble_whole.zip", folder, ["ensemble.zarr"])
    pack(ARTIFACTS / "vorticity.zip", folder, ["vorticity.zarr"])
    pack(ARTIFACTS / "scores.zip", folder, ["scores.nc", "scores.json"])
    _write_expected(before)


def _run_verbs(before: Before) -> None:
    folder = before.folder
    before.verb("prepare")
    before.verb("train")
    shutil.copytree(folder / "planet" / "data.zarr", folder / "stopped" / "data.zarr")
    before.run("-c", TRAIN_INTERRUPTED, *COMMANDS["train, interrupted"], code=INTERRUPTED)
    before.verb("forecast")
    before.verb("evaluate")
    before.verb("train-diagnostic")
    before.verb("forecast with a head")
    before.run("-c", FORECAST_KILLED, *COMMANDS["ensemble forecast"], code=KILLED)
    pack(ARTIFACTS / "ensemble_killed.zip", folder, [".ensemble.zarr.partial"])
    before.verb("ensemble forecast")  # goes on
    shutil.move(folder / "ensemble.zarr", folder / "resumed.zarr")
    before.verb("ensemble forecast")  # from the start
    if contents(folder / "resumed.zarr") != contents(folder / "ensemble.zarr"):
        raise RuntimeError("the forecast that was gone on with differs from the unbroken one")
    before.verb("prepare an equation of one's own")


def _write_expected(before: Before) -> None:
    configs = {f"resolved/{name}.yaml": words for name, words in config_words().items()}
    configs["resolved/planet.yaml"] = ["train", "--config=planet.yaml"]
    given = {
        "run": "planet",
        "store": "fisher/data.zarr",
        "state": "evaluation.npz",
        "fields": str(ARTIFACTS / "expected.npz"),
        "record": "record.json",
        "interrupted_at": INTERRUPT_AT_TASK,
        "configs": configs,
    }
    before.run(str(HERE / "public_calls.py"), json.dumps(given))
    pack(ARTIFACTS / "resolved_configs.zip", before.folder, ["resolved"])
    pack(ARTIFACTS / "evaluation.zip", before.folder, ["evaluation.npz"])
    manifest = {
        "commit": COMMIT,
        "commands": {name: " ".join(words) for name, words in COMMANDS.items()},
        "interrupted": {
            "train": f"Ctrl-C after step {STOP_AFTER_STEP}",
            "ensemble forecast": f"killed after {KILL_AFTER_PART} of 120 parts",
            "evaluation": f"Ctrl-C at task {INTERRUPT_AT_TASK}",
        },
        "machine": machine(),
        **json.loads((before.folder / "record.json").read_text()),
    }
    (ARTIFACTS / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main() -> None:
    """Make the artifacts with the checkout that is given."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("checkout", type=Path, help=f"a checkout of {COMMIT}")
    checkout = parser.parse_args().checkout.resolve()
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if not head.startswith(COMMIT):
        raise SystemExit(f"{checkout} is at {head.strip()}, expected {COMMIT}")
    with tempfile.TemporaryDirectory() as folder:
        make(Before(checkout, Path(folder)))


if __name__ == "__main__":
    main()
