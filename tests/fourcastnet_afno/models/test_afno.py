"""The life of an AFNONet."""

import pytest
import torch

from fourcastnet_afno.models.afno import AFNONet, AFNONetConfig, Block
from fourcastnet_afno.models.layers import Padding

TINY = AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=2, num_blocks=2)


def make_net(**changes: object) -> AFNONet:
    torch.manual_seed(0)
    fields = {**TINY.__dict__, **changes}
    return AFNONetConfig(**fields).build(in_channels=3, out_channels=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(8, 16), (17, 33), (6, 10)])
def test_output_lies_on_the_grid_of_the_input(shape: tuple[int, int]) -> None:
    output = make_net()(torch.randn(2, 3, *shape))
    assert output.shape == (2, 2, *shape)
    assert output.isfinite().all()
    assert output.std() > 0


def test_every_parameter_is_used_and_trained() -> None:
    torch.manual_seed(0)
    net = make_net(sparsity_threshold=0.01)
    net(torch.randn(2, 3, 8, 8)).square().mean().backward()
    unused = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_weights_travel_by_state_dict() -> None:
    net, other = make_net(), AFNONet(3, 2, config=TINY)
    other.load_state_dict(net.state_dict())
    field = torch.randn(1, 3, 8, 8)
    assert torch.equal(net(field), other(field))


def test_every_input_cell_reaches_every_output_cell() -> None:
    net = make_net(sparsity_threshold=0.0).double()
    field = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    disturbed = field.clone()
    disturbed[0, 0, 1, 1] += 1.0
    assert ((net(disturbed) - net(field)).abs() > 0).all()


def test_no_row_is_dropped() -> None:
    net = make_net(patch_size=(8, 8), padding=Padding(longitude="reflect"))
    field = torch.randn(1, 3, 17, 33)
    disturbed = field.clone()
    disturbed[..., -1, :] += 1.0
    assert not torch.equal(net(disturbed), net(field))


def test_block_with_zero_branches() -> None:
    """With silent mixer and MLP, two skips leave x + norm(x), one skip leaves x."""
    tokens = torch.randn(1, 4, 4, 8)
    for double_skip in (True, False):
        block = Block(AFNONetConfig(**{**TINY.__dict__, "double_skip": double_skip}), 0.0)
        with torch.no_grad():
            for parameter in [*block.mixer.parameters(), *block.mlp.parameters()]:
                parameter.zero_()
        expected = tokens + block.norm1(tokens) if double_skip else tokens
        assert torch.allclose(block(tokens), expected)


@pytest.mark.parametrize(
    "changes",
    [{"embed_dim": 0}, {"num_blocks": 3}, {"drop_rate": 1.0}, {"patch_size": (0, 2)}],
)
def test_wrong_options_are_named(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        make_net(**changes)
