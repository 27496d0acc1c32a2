"""The command line: ``fourcastnet-afno VERB``."""

from fourcastnet_afno.cli.main import main

__all__ = ["main"]
