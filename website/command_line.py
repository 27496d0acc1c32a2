"""The reference of the command line, made from its table of verbs and their functions."""

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from fourcastnet_afno.cli.functions import HELP
from fourcastnet_afno.cli.parser import PROGRAM, function_of
from fourcastnet_afno.cli.verbs import VERBS
from website.settings import bounds_in_words, dataclasses_in, place_of, type_in_words

_INTRODUCTION = """
# Command line

Read this page to see which options a verb has. `{program} VERB --help` prints the same, with the
settings of the verb, and `--print_completion bash` a script for tab completion. Every setting of
the YAML file is an option too, such as `--training.batch_size 64`.

The exit code is 0 after success, 1 if `doctor` finds what would stop a run, 2 after a mistake in
the input, 70 after a defect of this package, and 75 if a run was stopped and resumes.
"""


def page_of_verbs() -> str:
    """A page with every verb and its options, as Markdown."""
    lines = [_INTRODUCTION.strip().format(program=PROGRAM), ""]
    for name, verb in VERBS.items():
        lines += [f"## {name}", "", verb.help, ""]
        traits = []
        if verb.resumes:
            traits.append("The same command resumes it after an interruption.")
        if verb.is_parallel:
            traits.append("torchrun and srun may start it in several processes.")
        if verb.sections:
            pages = ", ".join(f"[{section}](settings/{section}.md)" for section in verb.sections)
            traits.append(f"Settings: {pages}.")
        lines += [
            " ".join(traits),
            "",
            "| option | type | default | meaning |",
            "|---|---|---|---|",
        ]
        lines += [*_options(name), *_short_options(verb.short), ""]
    return "\n".join(lines)


def _options(name: str) -> Iterator[str]:
    """Rows of the options of a verb's function."""
    for key, parameter in inspect.signature(function_of(name)).parameters.items():
        if key == "config":
            text = "YAML file of settings; may be repeated, the later file wins key by key"
            yield f"| `--config` | file | `OUTPUT/config.yaml` of a run folder | {text} |"
            continue
        kind, default = parameter.annotation, parameter.default
        words = type_in_words(kind).removesuffix(" or null").replace("|", r"\|")
        if group := next(dataclasses_in(kind), None):
            first = f"`--{key}.{fields(group)[0].name}`"
            words = f"[settings](settings/{place_of(group.__name__)}), such as {first}"
        text = HELP.get(f"{name}.{key}") or HELP.get(key) or "how it is done"
        bounds = "".join(f"; {sentence}" for sentence in bounds_in_words(kind))
        yield f"| `--{key}` | {words} | {_default(default)} | {text}{bounds} |"


def _short_options(short: Any) -> Iterator[str]:  # noqa: ANN401
    for option, setting in short.items():
        yield f"| `{option}` | | | short for `{setting}` |"


def _default(value: Any) -> str:  # noqa: ANN401
    if value is inspect.Parameter.empty:
        return "**required**"
    if value is None or is_dataclass(value):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
