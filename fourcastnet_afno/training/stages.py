"""The batches of a stage of training, and how many there are."""

from collections.abc import Callable
from functools import cache, cached_property

from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import WindowDataset
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.training.schedules import Plateau

# Training and validation windows for a number of rollout steps.
WindowsOf = Callable[[int], tuple[WindowDataset, WindowDataset]]


class StagePlan:
    """Loaders for each epoch of a stage, whose rollouts may grow from epoch to epoch."""

    def __init__(
        self, index: int, windows: WindowsOf, config: TrainingConfig, process: Process
    ) -> None:
        self.index, self.stage = index, config.stages[index]
        self._config, self._process = config, process
        self._epochs_before = sum(stage.epochs for stage in config.stages[:index])
        self._epochs_after = sum(stage.epochs for stage in config.stages[index + 1 :])
        self._windows = cache(windows)
        self._loaders: dict[int, Loader] = {}

    def training(self, epoch: int) -> Loader:
        """Microbatches of an epoch of the stage, in random order."""
        num_steps = self.stage.num_steps_in(epoch)
        if num_steps not in self._loaders:
            size = self._config.batch_size // self._config.accumulate
            self._loaders = {num_steps: self._loader(self._windows(num_steps)[0], size, True)}
        return self._loaders[num_steps]

    @cached_property
    def validation(self) -> Loader:
        """Batches in order of time, with the longest rollouts of the stage."""
        windows = self._windows(self.stage.num_steps)[1]
        return self._loader(windows, self._config.batch_size, False)

    def _loader(self, windows: WindowDataset, batch_size: int, shuffle: bool) -> Loader:
        return Loader(
            windows,
            batch_size,
            seed=self._config.seed,
            shuffle=shuffle,
            device=self._process.device,
            rank=self._process.data_rank,
            world_size=self._process.data_size,
            workers=self._config.workers,
            read_ahead=self._config.read_ahead,
        )

    def epoch_of_run(self, epoch: int) -> int:
        """Index of an epoch among those of all stages, which decides the order of its windows."""
        return self._epochs_before + epoch

    def num_windows(self, epoch: int) -> int:
        """Windows in an epoch."""
        return len(self._windows(self.stage.num_steps_in(epoch))[0])

    def num_batches(self, epoch: int) -> int:
        """Optimizer steps in an epoch."""
        return -(-self.num_windows(epoch) // self._config.batch_size)

    @cached_property
    def num_updates(self) -> int:
        """Optimizer steps in the stage."""
        return sum(map(self.num_batches, range(self.stage.epochs)))

    def windows_left(self, epoch: int, sample: int) -> int:
        """Windows until the end of the run, as many in later stages as in this epoch."""
        left = sum(self.num_windows(e) for e in range(epoch, self.stage.epochs)) - sample
        return left + self._epochs_after * self.num_windows(epoch)

    def learning_rate(self, stage_step: int, plateau: Plateau) -> float:
        """Learning rate of a step of the stage."""
        peak, schedule = self.stage.learning_rate, self._config.schedule
        return schedule.learning_rate(peak, stage_step, self.num_updates, plateau)
