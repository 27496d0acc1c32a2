import pytest

from fourcastnet_afno.models.config import AFNONetConfig, Padding, scaled_padding


@pytest.mark.parametrize(
    "changes",
    [{"embed_dim": 0}, {"num_blocks": 3}, {"drop_rate": 1.0}, {"patch_size": (0, 2)}],
)
def test_wrong_options_are_named(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        AFNONetConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mixer": "fno", "boundary": ("reflected", "periodic")}, "mixer=afno"),
        ({"vector_channels": 129}, "vector_channels"),
        ({"initialization": "identity"}, "wavenumber_weights=kernel"),
        ({"boundary": ("mirrored", "periodic")}, "got 4 and 0 on axis 0"),
        (
            {
                "boundary": ("periodic", "mirrored"),
                "patch_size": (2, 1),
                "padding": Padding(margin=(0, 3)),
            },
            "got 1 and 3 on axis 1",
        ),
    ],
)
def test_options_that_do_not_go_together_are_rejected(
    changes: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        AFNONetConfig(**changes)  # type: ignore[arg-type]


def test_settings_that_earlier_versions_did_not_know_are_written_where_they_are_used() -> None:
    new = {"wavenumber_weights", "kernel_window", "gated_mlp"}
    assert not new & set(AFNONetConfig().to_json())
    used = AFNONetConfig(wavenumber_weights="kernel", gated_mlp=True).to_json()
    assert new <= set(used)


def test_tokens_cover_the_field_and_its_padding() -> None:
    config = AFNONetConfig(patch_size=(4, 3), padding=Padding(margin=(1, 0)))
    assert config.token_grid((8, 9)) == (3, 3)
    assert config.padding.widths((8, 9), (4, 3)) == [(2, 2), (0, 0)]


def test_scaled_margins_keep_their_share_of_an_axis() -> None:
    scaled = scaled_padding(Padding(margin=(2, 3)), (24, 36), (72, 108))
    assert scaled == Padding(margin=(6, 9))
    with pytest.raises(ValueError, match=r"padding\.margin"):
        Padding(margin=(-1, 0))
