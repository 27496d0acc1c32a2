import inspect

import pytest

from fourcastnet_afno.cli.parser import function_of
from fourcastnet_afno.cli.verbs import VERBS
from website.command_line import page_of_verbs


@pytest.fixture(scope="module")
def parts() -> dict[str, str]:
    head, *parts = page_of_verbs().split("\n## ")
    assert head.startswith("# Command line")
    return {part.partition("\n")[0]: part for part in parts}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_its_help_and_a_row_for_each_option(parts: dict[str, str], verb: str) -> None:
    part = parts[verb]
    assert VERBS[verb].help in part
    for option in inspect.signature(function_of(verb)).parameters:
        assert f"\n| `--{option}` | " in part
    for short, setting in VERBS[verb].short.items():
        assert f"| `{short}` | | | short for `{setting}` |" in part
    assert ("resumes it" in part) == VERBS[verb].resumes


def test_options_have_types_defaults_and_links_to_their_settings(parts: dict[str, str]) -> None:
    assert (
        "| `--batch_size` | int | `1` | states in a batch, fixed; always 1 with anemoi; "
        "must lie in 1..10000 |" in parts["export"]
    )
    assert "| `--checkpoint` | file or folder | **required** |" in parts["export"]
    assert "| [settings](settings/data.md#data.source), such as `--truth.path` |" in parts["score"]
