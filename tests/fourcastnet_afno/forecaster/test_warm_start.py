from dataclasses import replace
from pathlib import Path

import torch

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.forecaster.checkpoint import save_checkpoint
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.forecaster.warm_start import match_weights, start_from
from fourcastnet_afno.models.config import AFNONetConfig
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster


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


def test_other_channels_of_the_same_number_do_not_match(tmp_path: Path) -> None:
    saved = make_forecaster()
    order = saved.spec.channels.channels[::-1]
    saved.spec = replace(saved.spec, channels=Channels(order))
    save_other(tmp_path / "a.safetensors", saved)
    match = start_from(make_forecaster(), tmp_path / "a.safetensors")
    assert {name.split(".")[1] for name in match.tensors} == {"blocks", "norm"}
    assert len(match.different) == 4
    assert all("of another layer" in text for text in match.different)


def test_another_forcing_changes_the_first_layer_alone(tmp_path: Path) -> None:
    saved = make_forecaster()
    saved.spec = replace(saved.spec, forcings=("toa_insolation",))
    save_other(tmp_path / "a.safetensors", saved)
    match = start_from(make_forecaster(), tmp_path / "a.safetensors")
    assert len(match.different) == 2
    assert all(text.startswith("network.patch_embed.") for text in match.different)


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    saved = make_forecaster()
    saved.spec = replace(saved.spec, channels=Channels((Channel(name="a"), Channel(name="b"))))
    save_other(tmp_path / "a.safetensors", saved)
    network = AFNONetConfig(patch_size=(2, 2), embed_dim=16, depth=2, num_blocks=4)
    with rejects("no-matching-weights", "a.safetensors"):
        start_from(make_forecaster(network=network), tmp_path / "a.safetensors")
