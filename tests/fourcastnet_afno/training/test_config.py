"""Settings of a training."""

import itertools
import math

import pytest

from fourcastnet_afno.losses.config import LossChanges, LossConfig
from fourcastnet_afno.training.config import (
    RolloutConfig,
    Stage,
    TrainingConfig,
)


def test_members_are_shared_evenly() -> None:
    members = {"loss": LossConfig(kind="crps"), "rollout": RolloutConfig(num_members=6)}
    TrainingConfig(member_ranks=3, **members)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"training\.member_ranks=4 must divide num_members"):
        TrainingConfig(member_ranks=4, **members)  # type: ignore[arg-type]


def test_step_weights_by_hand() -> None:
    assert RolloutConfig().step_weights(4) == [0.25] * 4
    assert RolloutConfig(discount=0.5).step_weights(3) == [4 / 7, 2 / 7, 1 / 7]
    assert RolloutConfig(gradient="pushforward").step_weights(3) == [0, 0, 1]


@pytest.mark.parametrize(
    ("first", "last", "total"), [(1, 4, 8), (1, 4, 10), (2, 12, 11), (1, 1, 5)]
)
def test_curriculum(first: int, last: int, total: int) -> None:
    stage = Stage(epochs=total, first_num_steps=first, num_steps=last)
    steps = [stage.num_steps_in(epoch) for epoch in range(total)]
    counts = [steps.count(n) for n in range(first, last + 1)]
    assert steps == sorted(steps)
    assert sum(counts) == total
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(steps))


def test_wrong_settings_are_named() -> None:
    for options in ({"discount": 0.0}, {"num_members": 0}, {"member_noise": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}"):
            RolloutConfig(**options)  # type: ignore[arg-type]


def test_a_stage_changes_the_loss_and_the_members_of_the_training() -> None:
    config = TrainingConfig(
        stages=[Stage(), Stage(num_members=3, loss=LossChanges(kind="crps"))],
        loss=LossConfig(kind="huber", huber_delta=0.5),
        rollout=RolloutConfig(discount=0.9),
    )
    first, second = config.stages
    assert (config.loss_of(first), config.rollout_of(first)) == (config.loss, config.rollout)
    assert config.loss_of(second) == LossConfig(kind="crps", huber_delta=0.5)
    assert config.rollout_of(second) == RolloutConfig(discount=0.9, num_members=3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 8, "accumulate": 3}, "multiple of training.accumulate"),
        ({"parallel": "fsdp", "precision": "float16"}, "use bfloat16"),
        ({"keep_last": 0}, "training.keep_last must be at least 1"),
        ({"checkpoint_every_minutes": math.nan}, "training.checkpoint_every_minutes"),
        ({"spike_factor": 1.0}, "training.spike_factor"),
        ({"ema_decay": 1.0}, "training.ema_decay"),
        ({"rollout": RolloutConfig(num_members=2)}, "num_members 2 in stage 1"),
        ({"member_ranks": 2, "spatial_ranks": 2}, "training.member_ranks=2 needs"),
        ({"member_ranks": 2, "parallel": "fsdp"}, "training.member_ranks=2 needs parallel=ddp"),
        ({"stages": [Stage(), Stage(num_members=2)]}, "num_members 2 in stage 2"),
    ],
)
def test_settings_that_do_not_fit_are_rejected(changes: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        TrainingConfig(**changes)
