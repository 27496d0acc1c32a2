from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from fourcastnet_afno.cli.parser import build_parser, completion, explain, parse, setting_names
from fourcastnet_afno.cli.verbs import SECTIONS, VERBS
from fourcastnet_afno.workflows.config import ExperimentConfig
from tests.builders.errors import rejects

ROOT = Path(__file__).parents[3] / "configs"
CONFIGS = sorted(ROOT.glob("*.yaml"))
LINES = (ROOT / "quickstart.yaml").read_text().splitlines()
TRAINING, LAST = f"line {LINES.index('training:') + 1}", f"line {len(LINES) + 1}"
NEEDED = {"train-diagnostic": ["--output=o", "--checkpoint=c"]}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_recipe_parses(path: Path) -> None:
    assert isinstance(parse("train", [f"--config={path}"])["config"], ExperimentConfig)


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.sections])
def test_verbs_accept_all_settings_and_show_their_own(name: str) -> None:
    config = parse("train", [f"--config={CONFIGS[0]}"])["config"]
    words = [f"--config={CONFIGS[0]}", "--training.seed=7", "--evaluation.seed=8"]
    changed = parse(name, [*words, *NEEDED.get(name, [])])["config"]
    assert (changed.training.seed, changed.evaluation.seed) == (7, 8)
    assert changed.data == config.data
    text = build_parser(name).format_help()
    for section in SECTIONS:
        assert (f"--{section}." in text) == (section in VERBS[name].sections)


def test_every_argument_has_a_help_text() -> None:
    for name in VERBS:
        for action in build_parser(name)._actions:
            assert action.help, f"{name} {action.option_strings}"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--training.sede=1"], "training.seed"),
        (["--training.sede=1"], "training.sede"),
        (["--training.batch_size=many"], "training.batch_size must be int, got many"),
        (["--training.device=mars"], "training.device must be one of auto, cpu, cuda, got mars"),
        (["--training.stages=[{epoch: 3}]"], "did you mean training.stages.epochs"),
        (["--training.stages=[{loss: l1}]"], "training.stages.loss must be a group of settings"),
        (["--data.source.pth=x"], "did you mean data.source.path"),
        (["--model.network.embed_dim=30"], "num_blocks must divide embed_dim"),
        (["--data.train.end=2030-01-01"], "data.train must end before data.validation"),
        (["--steps=3"], "there is no setting steps"),
    ],
)
def test_wrong_settings_are_named_in_one_line(words: list[str], named: str) -> None:
    with rejects("bad-setting", named) as info:
        parse("train", [f"--config={CONFIGS[0]}", *words])
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("training: {seed: 1}", ("'training'", TRAINING, LAST)),
        ("b: &b [*b]", (LAST,)),
        ("\xff", ("read as text",)),
    ],
)
def test_yaml_that_loses_or_explodes_is_named_with_its_file(
    text: str, named: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "e.yaml"
    path.write_bytes((ROOT / "quickstart.yaml").read_bytes() + text.encode("latin-1"))
    for word in (f"--config={path}", f"--training={path}"):
        with rejects("bad-yaml", str(path), *named):
            parse("train", [f"--config={CONFIGS[0]}", word])


def test_a_file_without_settings_is_named(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("# nothing")
    with rejects("bad-yaml", str(tmp_path / "e.yaml")):
        parse("train", [f"--config={CONFIGS[0]}", f"--config={tmp_path / 'e.yaml'}"])


def test_yaml_in_words_is_that_of_files_and_names_are_names() -> None:
    words = [f"--config={CONFIGS[0]}"]
    with rejects("bad-yaml", "'epochs'"):
        parse("train", [*words, "--training.stages=[{epochs: 3, epochs: 4}]"])
    for name in ("{a,b}", "C:", "a: b: c", "[a", "2001-01-01"):
        assert parse("train", [*words, f"--data.store={name}"])["config"].data.store == name
    options = parse(
        "score", ["--forecast=a", "--truth.path=t", "--truth.storage_options={token: null}",
                  "--climatology.path=c"],
    )  # fmt: skip
    assert options["truth"].storage_options == {"token": None}


@pytest.mark.parametrize("section", SECTIONS)
def test_unknown_keys_of_files_are_named(section: str, tmp_path: Path) -> None:
    """Also in sections that the verb does not use."""
    settings: dict[str, Any] = yaml.safe_load(CONFIGS[0].read_text())
    settings.setdefault(section, {})["nonsense"] = 1
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(settings))
    with rejects("bad-setting", f"{section}.nonsense"):
        parse("prepare", [f"--config={tmp_path / 'e.yaml'}"])


def test_flags_and_types_of_arguments() -> None:
    options = parse("prepare", [f"--config={CONFIGS[0]}", "--plan", "--execution.num_jobs=2"])
    assert (options["plan"], options["verify"]) == (True, False)
    assert options["execution"].num_jobs == 2
    words = ["--forecast=a", "--forecast", "b=c", "--truth.path=t", "--truth.rename.x=y"]
    options = parse("score", [*words, "--climatology.path=[c, d]"])
    assert options["forecast"] == ["a", "b=c"]
    assert options["truth"].rename == {"x": "y"}
    assert (options["climatology"].paths, options["training"]) == (["c", "d"], None)


def test_words_do_not_change_how_later_ones_are_parsed() -> None:
    words = [f"--config={CONFIGS[0]}"]
    expected = parse("prepare", words)
    for wrong in ("--training.seed=x", "--print_config", "--nothing=1", "--data.fill=3"):
        with rejects("bad-setting"):
            parse("prepare", [*words, "--training.seed=7", wrong, "--training.ema_decay=x"])
    assert parse("prepare", words) == expected
    with rejects("bad-setting", "data.prognostic"):
        parse("prepare", [])


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_verbs_and_shown_settings(shell: str) -> None:
    script = completion(shell)
    for word in ("train-diagnostic", "--training.batch_size", "--init-times"):
        assert word in script


@dataclass
class Inner:
    rate: float = 1.0


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    many: list[Inner] = field(default_factory=list)
    maybe: Inner | None = None


NAMES = ["training.seed", "training.batch_size", "data.source.path", "data.simulation.seed"]


def test_names_of_nested_settings() -> None:
    names = ["inner", "many", "maybe", "inner.rate", "many.rate", "maybe.rate"]
    assert setting_names(Outer) == names
    assert setting_names(Outer | None, "a.") == [f"a.{name}" for name in names]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "unrecognized arguments: --training.sed=1 --more",
            "there is no setting training.sed; did you mean training.seed",
        ),
        (
            "Group 'training' does not accept option 'batch_sise'",
            "there is no setting training.batch_sise; did you mean training.batch_size",
        ),
        (
            "Parser key \"data.source\":\n  Subtypes\n   Option 'pat' is not accepted\n",
            "there is no setting data.source.pat; did you mean data.source.path?",
        ),
        ("unrecognized arguments: zzz", "there is no setting zzz; see --help"),
        (
            "Parser key \"seed\":\n  Expected a <class 'int'>. Got value: many",
            "seed must be int, got many",
        ),
        (
            "Parser key \"a\":\n  Errors:\n    - Expected a typing.Literal['x', 'y']\n"
            "    - Expected a <class 'NoneType'>\n  Given value type: str\n  Given value: z",
            "a must be one of x, y or null, got z",
        ),
        ('Parser key "config": File\n does not exist', "config: File does not exist"),
        (
            "Parser key \"data.pde\":\n  Errors:\n    - Problem with given class_path 'a.B':\n"
            "        the following arguments are required: resolution\n  Given value: B()",
            "data.pde needs resolution, got none",
        ),
    ],
)
def test_messages_of_the_parser_in_one_line(message: str, line: str) -> None:
    assert explain(message, NAMES).startswith(line)
    assert "\n" not in explain(message, NAMES)


@pytest.mark.parametrize(
    ("setting", "value", "line"),
    [
        ("source.path", 5, "data.source.path must be str or list, got 5"),
        ("source.rename", "a", "data.source.rename must be dict, got a"),
        ("source", 5, "data.source must be a group of settings, got 5"),
        ("storage", 3, "data.storage must be a group of settings, got 3"),
        ("subset", "x", "data.subset must be a group of settings, got x"),
        ("subset", "[red]x", "data.subset must be a group of settings, got [red]x"),
    ],
)
def test_values_of_a_wrong_type_in_files_are_named_in_one_line(
    setting: str, value: object, line: str, tmp_path: Path
) -> None:
    config = yaml.safe_load(CONFIGS[0].read_text())
    *groups, last = ("data", *setting.split("."))
    part = config
    for group in groups:
        part = part[group]
    part[last] = value
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with rejects("bad-setting") as info:
        parse("prepare", [f"--config={tmp_path / 'config.yaml'}"])
    assert str(info.value) == line


@pytest.mark.parametrize("section", ["training", "evaluation", "training.loss", "data.storage"])
def test_a_section_that_says_nothing_leaves_its_settings(section: str, tmp_path: Path) -> None:
    first, empty = tmp_path / "first.yaml", tmp_path / "empty.yaml"
    first.write_text(CONFIGS[0].read_text())
    *group, name = section.split(".")
    empty.write_text(f"{group[0]}:\n  {name}:\n" if group else f"{name}:  # as it is\n")
    expected = parse("train", [f"--config={first}"])
    assert parse("train", [f"--config={first}", f"--config={empty}"]) == expected
    assert parse("train", [f"--config={empty}", f"--config={first}"]) == expected
