from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.fine_tuning.warm_start import match_weights, start_from
from fourcastnet_afno.forecaster.checkpoint import save_checkpoint
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.models.config import AFNONetConfig
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster, make_states


def test_match_by_hand() -> None:
    own = {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(1)}
    given = {"a": torch.ones(2), "b": torch.ones(3), "d": torch.ones(1)}
    match = match_weights(own, given)
    assert match.tensors.keys() == {"a"}
    assert (match.missing, match.unexpected) == (("c",), ("d",))
    assert match.different == ("b ((3,) there, (2,) here)",)
    assert str(match) == (
        "1 weights taken over; 1 missing: c; 1 unexpected: d; "
        "1 different: b ((3,) there, (2,) here)"
    )


def save_other(path: Path, forecaster: Forecaster) -> Forecaster:
    """A checkpoint whose weights and statistics are all different."""
    with torch.no_grad():
        for tensor in forecaster.state_dict().values():
            tensor.add_(1)
    save_checkpoint(path, forecaster, {}, {})
    return forecaster


def test_all_weights_but_no_statistics_are_taken_over(tmp_path: Path) -> None:
    saved = save_other(tmp_path / "a.safetensors", make_forecaster())
    finer = make_forecaster(LatLonGrid.equiangular(12, 24))
    before = {name: t.clone() for name, t in finer.state_dict().items()}
    match = start_from(finer, tmp_path / "a.safetensors")
    assert match.missing == match.unexpected == match.different == ()
    theirs = saved.state_dict()
    for name, tensor in finer.state_dict().items():
        taken = name.startswith("network.")
        assert torch.equal(tensor, theirs[name] if taken else before[name]), name


def test_a_deeper_network_takes_what_fits(tmp_path: Path) -> None:
    saved = save_other(tmp_path / "a.safetensors", make_forecaster())
    network = AFNONetConfig(patch_size=(1, 2), embed_dim=8, depth=3, num_blocks=2)
    deeper = make_forecaster(network=network)
    match = start_from(deeper, tmp_path / "a.safetensors")
    assert {name.split(".")[1] for name in match.tensors} == {"blocks", "norm"}
    assert all(name.startswith("network.blocks.2.") for name in match.missing)
    assert {text.split()[0] for text in match.different} == {
        f"network.{layer}.projection.{kind}"
        for layer in ("patch_embed", "patch_recovery")
        for kind in ("weight", "bias")
    }
    taken = "network.blocks.1.mixer.weight1"
    assert torch.equal(deeper.state_dict()[taken], saved.state_dict()[taken])


def test_channels_in_another_order_are_found_by_name(tmp_path: Path) -> None:
    saved, other = make_forecaster(num_history=2), make_forecaster(num_history=2)
    save_checkpoint(tmp_path / "a.safetensors", saved, {}, {})
    other.spec = replace(saved.spec, channels=Channels(saved.spec.channels.channels[::-1]))
    match = start_from(other, tmp_path / "a.safetensors")
    assert match.different == match.added == match.lost == ()
    fields = torch.randn(1, 2, 2, *saved.spec.grid.shape)
    rest = torch.randn(1, len(saved.static) + 1, *saved.spec.grid.shape)
    first, second = (
        forecaster.network(torch.cat([given.flatten(1, 2), rest], dim=1))
        for forecaster, given in ((saved, fields), (other, fields.flip(2)))
    )
    torch.testing.assert_close(first, second.flip(1), rtol=1e-5, atol=1e-6)


def test_another_forcing_starts_at_zero(tmp_path: Path) -> None:
    saved = make_forecaster()
    saved.spec = replace(saved.spec, forcings=("toa_insolation",))
    save_other(tmp_path / "a.safetensors", saved)
    forecaster = make_forecaster()
    match = start_from(forecaster, tmp_path / "a.safetensors")
    assert (match.added, match.lost) == (("day_of_year_sin",), ("toa_insolation",))
    columns = forecaster.network.patch_embed.projection.weight.unflatten(1, (-1, 4))
    assert (columns[:, 2] == 0).all()
    assert (columns[:, [0, 1, *range(3, columns.shape[1])]] != 0).all()


def with_a_third_channel(num_history: int, model: dict[str, Any]) -> Forecaster:
    """A forecaster like those of ``make_forecaster`` with humidity between its two channels."""
    old = make_forecaster(num_history=num_history, **model)
    first, last = old.spec.channels.channels
    channels = Channels((first, Channel(name="specific_humidity", level=500), last))
    mean_state = old.mean_state
    with torch.random.fork_rng():
        return Forecaster(
            old.config,
            replace(old.spec, channels=channels),
            mean=torch.tensor([5e4, 1e-3, 280.0]),
            std=torch.tensor([1e3, 1e-3, 10.0]),
            diff_std=torch.tensor([300.0, 1e-4, 2.0]),
            static=torch.zeros(0, *old.spec.grid.shape),
            mean_state=None if mean_state is None else mean_state[[0, 0, 1]],
        )


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"band_limit": 0.667, "band_edge": "smooth", "short_waves": "decay", "damping_days": 5.0},
        {"prediction": "direct"},
    ],
)
def test_added_channels_leave_the_first_forecast_of_the_old_ones(
    tmp_path: Path, model: dict[str, Any]
) -> None:
    """To rounding: sums of more products, of which the new ones are zero, have another order."""
    saved = make_forecaster(num_history=2, **model)
    save_checkpoint(tmp_path / "a.safetensors", saved, {}, {})
    wider = with_a_third_channel(2, model)
    match = start_from(wider, tmp_path / "a.safetensors")
    new = "specific_humidity_500"
    of = "" if model.get("prediction") == "direct" else "change of "
    assert match.added == (f"{new}, 1 steps before", new, f"{of}{new}")
    state, forcing = make_states(wider, 1, 2), torch.randn(1, 1, *saved.spec.grid.shape)
    old = saved(state[:, :, [0, 2]], forcing)
    following = wider(state, forcing)
    assert ((following[:, [0, 2]] - old).abs() < 1e-3 * saved.diff_std).all()
    if not model:
        assert torch.equal(following[:, 1], state[:, -1, 1])  # persists
    following[:, 1].sum().backward()
    gradient = wider.network.patch_recovery.projection.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0  # and learns


def test_the_network_with_added_channels_is_the_old_one_in_exact_arithmetic(tmp_path: Path) -> None:
    saved = make_forecaster(num_history=2)
    save_checkpoint(tmp_path / "a.safetensors", saved, {}, {})
    wider = with_a_third_channel(2, {})
    start_from(wider, tmp_path / "a.safetensors")
    fields = torch.randn(2, len(wider.static) + 7, *saved.spec.grid.shape, dtype=torch.float64)
    known = [0, 2, 3, 5, *range(6, fields.shape[1])]
    old, new = saved.network.double()(fields[:, known]), wider.network.double()(fields)
    torch.testing.assert_close(new[:, [0, 2]], old, rtol=1e-12, atol=1e-12)
    assert (new[:, 1] == 0).all()


@pytest.mark.parametrize("prediction", ["residual", "direct"])
def test_folded_weights_compute_the_same_in_physical_units(tmp_path: Path, prediction: str) -> None:
    saved = make_forecaster(num_history=2, prediction=prediction)
    save_checkpoint(tmp_path / "a.safetensors", saved, {}, {})
    other = Forecaster(
        saved.config,
        saved.spec,
        mean=torch.tensor([5.1e4, 275.0]),
        std=torch.tensor([2e3, 5.0]),
        diff_std=torch.tensor([100.0, 3.0]),
        static=torch.zeros(0, *saved.spec.grid.shape),
    )
    start_from(other, tmp_path / "a.safetensors", folded=True)
    state, forcing = make_states(saved, 3, 2), torch.randn(3, 1, *saved.spec.grid.shape)
    error = (saved(state, forcing) - other(state, forcing)).abs() / saved.diff_std
    assert error.max() < 1e-3  # roundings of 5e4 with 24 bits are 1e-5 of a change of 300
    start_from(other, tmp_path / "a.safetensors")
    error = (saved(state, forcing) - other(state, forcing)).abs() / saved.diff_std
    assert error.max() > 0.1


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    saved = make_forecaster()
    saved.spec = replace(saved.spec, channels=Channels((Channel(name="a"), Channel(name="b"))))
    save_other(tmp_path / "a.safetensors", saved)
    network = AFNONetConfig(patch_size=(2, 2), embed_dim=16, depth=2, num_blocks=4)
    with rejects("no-matching-weights", "a.safetensors"):
        start_from(make_forecaster(network=network), tmp_path / "a.safetensors")
