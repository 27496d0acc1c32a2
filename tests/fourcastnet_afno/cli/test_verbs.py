import inspect

from fourcastnet_afno.cli.parser import function_of
from fourcastnet_afno.cli.verbs import SECTIONS, VERBS


def test_every_verb_has_a_function_which_takes_an_experiment_if_it_shows_one() -> None:
    for name, verb in VERBS.items():
        parameters = inspect.signature(function_of(name)).parameters
        assert ("config" in parameters) == bool(verb.sections)
        assert set(verb.sections) <= set(SECTIONS)


def test_the_verbs_of_launchers() -> None:
    parallel = [name for name, verb in VERBS.items() if verb.is_parallel]
    assert parallel == ["train", "train-diagnostic", "forecast"]
