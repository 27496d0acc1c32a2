import pytest
import torch
from torch import Tensor, nn

from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.training.config import OptimizerConfig, TrainingConfig
from fourcastnet_afno.training.optimizers.build import build_optimizer, set_learning_rate
from fourcastnet_afno.training.optimizers.muon import Muon, orthogonal_factors


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def step(matrix: Tensor, gradient: Tensor, *, lr: float = 0.1, decay: float = 0.0) -> Tensor:
    """A matrix after one step."""
    weight = nn.Parameter(matrix.clone())
    group = {"params": [weight], "is_matrix": True, "weight_decay": decay}
    optimizer = Muon([group], lr=lr)
    weight.grad = gradient.clone()
    optimizer.step()
    return weight.detach()


def build(name: str, **options: object) -> tuple[nn.Module, torch.optim.Optimizer]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=2, num_blocks=2, **options)  # type: ignore[arg-type]
        network = AFNONet(2, 1, config=config).double()
    optimizer = build_optimizer(OptimizerConfig(name=name), network)  # type: ignore[arg-type]
    set_learning_rate(optimizer, 1e-2)
    return network, optimizer


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (2, 5, 3, 4)])
def test_factors_have_the_directions_of_the_matrix_and_about_one_length(
    shape: tuple[int, ...],
) -> None:
    matrix = draw(*shape)
    (factor,) = orthogonal_factors([matrix])
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    lengths = left.mT @ factor @ right.mT
    torch.testing.assert_close(lengths, torch.diag_embed(lengths.diagonal(dim1=-2, dim2=-1)))
    assert (lengths.diagonal(dim1=-2, dim2=-1) - 1).abs().max() < 0.35


def test_first_step_by_hand() -> None:
    """Of a matrix with one row the factor is the row over its length, times p(p(p(p(p(1)))))."""
    length = 1.0
    for _ in range(5):
        length = 3.4445 * length - 4.7750 * length**3 + 2.0315 * length**5
    found = step(torch.ones(1, 4, dtype=torch.float64), draw(1, 4), lr=0.1, decay=0.5)
    row = draw(1, 4)
    expected = (1 - 0.1 * 0.5) - 0.1 * 0.2 * 2 * length * row / row.norm()
    torch.testing.assert_close(found, expected)


def test_steps_turn_with_the_gradient_and_do_not_know_its_size() -> None:
    zero, gradient = torch.zeros(4, 6, dtype=torch.float64), draw(4, 6)
    rotation, _ = torch.linalg.qr(draw(4, 4, seed=1))
    moved = step(zero, gradient)
    torch.testing.assert_close(step(zero, rotation @ gradient), rotation @ moved)
    torch.testing.assert_close(step(zero, 1e3 * gradient), moved)
    assert not step(zero, 0 * gradient).any()


def test_a_stack_is_its_matrices() -> None:
    start, gradient = draw(3, 2, 4), draw(3, 2, 4, seed=1)
    together = step(start, gradient)
    for index in range(3):
        torch.testing.assert_close(together[index], step(start[index], gradient[index]))


@pytest.mark.parametrize("options", [{}, {"wavenumber_weights": "kernel"}])
def test_what_is_no_matrix_moves_as_with_adamw(options: dict) -> None:
    networks = []
    for name in ("muon", "adamw"):
        network, optimizer = build(name, **options)
        for number in range(3):
            for index, weight in enumerate(network.parameters()):
                weight.grad = draw(*weight.shape, seed=100 * number + index)
            optimizer.step()
        networks.append(dict(network.named_parameters()))
    matrices = {"mixer.weight1", "mixer.weight2", "mlp.0.weight", "mlp.3.weight"}
    for name, weight in networks[0].items():
        same = torch.allclose(weight, networks[1][name], rtol=1e-12, atol=1e-14)
        assert same != (name.partition(".")[2].partition(".")[2] in matrices), name


def test_no_gradient_no_step() -> None:
    network, optimizer = build("muon")
    before = [weight.detach().clone() for weight in network.parameters()]
    optimizer.step()
    assert all(map(torch.equal, before, network.parameters()))


def test_a_closure_is_evaluated_with_gradients() -> None:
    weight = nn.Parameter(torch.eye(2))
    optimizer = Muon([{"params": [weight], "is_matrix": True}], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert weight.sum() < 2


def test_shards_of_matrices_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"optimizer.name=muon needs whole matrices"):
        TrainingConfig(optimizer=OptimizerConfig(name="muon"), parallel="fsdp")
