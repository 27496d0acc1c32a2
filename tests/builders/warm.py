"""Import of this module makes what every command of a new process would make again."""

from contextlib import suppress

from data_pipeline.errors import InputError
from fourcastnet_afno.cli.parser import parse
from fourcastnet_afno.cli.verbs import VERBS

for name in VERBS:
    with suppress(InputError):  # the words that it needs
        parse(name, [])
