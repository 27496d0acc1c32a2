"""The verb ``prepare``: from a source or a simulation to the training store of a run."""

from pathlib import Path

from data_pipeline.files.atomic import replacing
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.preparation.prepare import open_store, plan_preparation
from data_pipeline.preparation.prepare import prepare as prepare_store
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.workflows import console
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.resume import check_resumable


def prepare_run(
    config: ExperimentConfig,
    output: Path,
    verify: bool = False,
    plan: bool = False,
    execution: ExecutionConfig | None = None,
) -> PreparedStore | None:
    """Read or simulate the data, check it, and write the training store with its statistics.

    Args:
        config: Its ``data`` part names source and channels.
        output: Run folder.
        verify: Compares every file of the store with its checksum.
        plan: Prints what would be done, and stops.
        execution: Where the work is done.
    """
    location = store_location(config, output)
    if plan and "://" not in location:
        console.print(plan_preparation(config.data, Path(location)).describe())
        return None
    store = open_or_prepare(config, output, execution)
    if verify:
        store.verify()
        console.print(f"{location} is unchanged (fingerprint {store.fingerprint})")
    return store


def open_or_prepare(
    config: ExperimentConfig, output: Path, execution: ExecutionConfig | None = None
) -> PreparedStore:
    """The training store of a run, prepared where it does not exist yet."""
    location = store_location(config, output)
    if "://" in location:
        store = open_store(location, config.data)
    else:
        store = prepare_store(config.data, Path(location), execution, console.print)
    with replacing(output / "config.yaml") as temporary:
        temporary.write_text(config.to_yaml())
    return store


def store_location(config: ExperimentConfig, output: Path) -> str:
    """Folder or URL of the training store."""
    return config.data.store or str(output / "data.zarr")


def open_prepared_store(
    config: ExperimentConfig, output: Path, process: Process, backbone: str | None = None
) -> PreparedStore:
    """The training store, which the main process alone prepares.

    Raises:
        InputError: If the folder holds another run, see ``check_resumable``.
    """
    if not process.is_main:
        return open_store(store_location(config, output), config.data)
    folder = output / "checkpoints"
    check_resumable(config, folder / "last.safetensors", backbone)
    store = open_or_prepare(config, output)
    folder.mkdir(exist_ok=True)
    return store
